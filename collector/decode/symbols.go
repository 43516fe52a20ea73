package decode

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
)

// ErrHidden says that /proc/kallsyms can be read but shows no addresses (kernel.kptr_restrict, proc(5)).
var ErrHidden = errors.New("kernel hides symbol addresses")

// Symbols finds the kernel function at an address. The table holds text symbols only, about 30 bytes each and some
// MB in all; it is read once, on first use (some 100 ms), and is safe for concurrent use. Functions of modules that are
// loaded later are not found.
type Symbols struct {
	load func() (*symbolTable, error)
}

// NewSymbols returns the symbols in the file path, in the format of /proc/kallsyms, which "" stands for.
func NewSymbols(path string) *Symbols {
	if path == "" {
		path = "/proc/kallsyms"
	}
	return &Symbols{load: sync.OnceValues(func() (*symbolTable, error) { return loadSymbols(path) })}
}

// Lookup returns the name of the function that holds addr, "" if unknown.
func (s *Symbols) Lookup(addr uint64) string {
	t, err := s.load()
	if err != nil {
		return ""
	}
	return t.lookup(addr)
}

// Count is the number of functions known. The error says why there are none; errors.Is ErrHidden where the kernel hides them.
func (s *Symbols) Count() (int, error) {
	t, err := s.load()
	if err != nil {
		return 0, err
	}
	return len(t.symbols), nil
}

// symbolTable is sorted by address. Names lie one behind the other in names, so that the collector has nothing to scan.
type symbolTable struct {
	symbols []symbol
	names   []byte
}

type symbol struct {
	addr uint64
	name uint32 // offset in names
	len  uint32
}

// maxSymbol bounds how far behind its start an address still belongs to a function: kallsyms gives no sizes, and an
// address behind the last text symbol of a section belongs to none.
const maxSymbol = 1 << 20

func (t *symbolTable) lookup(addr uint64) string {
	i, ok := slices.BinarySearchFunc(t.symbols, addr, func(s symbol, addr uint64) int {
		switch {
		case s.addr < addr:
			return -1
		case s.addr > addr:
			return 1
		}
		return 0
	})
	if !ok {
		i-- // the last symbol that begins before addr
	}
	if i < 0 || addr-t.symbols[i].addr >= maxSymbol {
		return ""
	}
	s := t.symbols[i]
	return string(t.names[s.name : s.name+s.len])
}

func loadSymbols(path string) (*symbolTable, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	defer f.Close()
	return parseSymbols(f)
}

// parseSymbols reads lines of "address type name [module]" (kernel/kallsyms.c, s_show) and keeps types t, T, w and W.
// Of several names for one address the first stays: the kernel lists the function before its aliases.
func parseSymbols(r io.Reader) (*symbolTable, error) {
	t := &symbolTable{}
	hidden := false
	sc := bufio.NewScanner(bufio.NewReaderSize(r, 1<<16))
	for sc.Scan() {
		addr, name, ok := parseSymbol(sc.Bytes())
		if !ok {
			continue
		}
		if addr == 0 {
			hidden = true
			continue
		}
		t.symbols = append(t.symbols, symbol{addr, uint32(len(t.names)), uint32(len(name))})
		t.names = append(t.names, name...)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	if len(t.symbols) == 0 && hidden {
		return nil, ErrHidden
	}
	slices.SortStableFunc(t.symbols, func(a, b symbol) int {
		if a.addr < b.addr {
			return -1
		}
		if a.addr > b.addr {
			return 1
		}
		return 0
	})
	t.symbols = slices.Clip(slices.CompactFunc(t.symbols, func(a, b symbol) bool { return a.addr == b.addr }))
	t.names = slices.Clip(t.names)
	return t, nil
}

func parseSymbol(line []byte) (addr uint64, name []byte, ok bool) {
	hex, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(rest) < 3 || rest[1] != ' ' {
		return 0, nil, false
	}
	switch rest[0] {
	case 't', 'T', 'w', 'W':
	default:
		return 0, nil, false
	}
	addr, err := strconv.ParseUint(string(hex), 16, 64)
	if err != nil {
		return 0, nil, false
	}
	name, _, _ = bytes.Cut(rest[2:], []byte{'\t'})
	name, _, _ = bytes.Cut(name, []byte{'.'}) // the compiler's ".cold", ".isra.0": not in the source
	return addr, name, true
}
