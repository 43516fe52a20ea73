// Package schema holds the tables of the store as numbered SQL files. A file is applied once, in order, and never changed
// after a release: what is new comes in a new file.
package schema

import (
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed *.sql
var files embed.FS

// Migration is one file.
type Migration struct {
	Version    int    // the number that the name begins with
	Name       string // "001_flows.sql"
	Statements []string
}

// Migrations returns all of them, lowest version first.
func Migrations() ([]Migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	out := make([]Migration, len(names))
	for i, name := range names { // Glob sorts
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s: want a name that begins with %03d", name, i+1)
		}
		out[i] = Migration{Version: version, Name: name, Statements: split(string(text))}
	}
	return out, nil
}

// split cuts text at semicolons that end a line.
func split(text string) []string {
	var out []string
	for s := range strings.SplitSeq(text, ";\n") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}
