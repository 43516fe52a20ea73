package clickhouse

import (
	"fmt"
	"strconv"
	"strings"
)

// params collects the values of a statement's {name:Type} placeholders. Values never become part of the statement's text.
type params map[string]string

// add returns the placeholder for a value of a type.
func (p params) add(typ, value string) string {
	name := "p" + strconv.Itoa(len(p))
	p[name] = value
	return "{" + name + ":" + typ + "}"
}

// str, strs, num and nums return the placeholder for v.

func (p params) str(v string) string { return p.add("String", escape(v)) }

func (p params) strs(v []string) string {
	quoted := make([]string, len(v))
	for i, s := range v {
		quoted[i] = "'" + escape(s) + "'"
	}
	return p.add("Array(String)", "["+strings.Join(quoted, ",")+"]")
}

func (p params) num(v int64) string { return p.add("Int64", strconv.FormatInt(v, 10)) }

func nums[T ~uint8 | ~uint16 | ~uint32 | ~uint64](p params, v []T) string {
	digits := make([]string, len(v))
	for i, n := range v {
		digits[i] = strconv.FormatUint(uint64(n), 10)
	}
	return p.add("Array(UInt64)", "["+strings.Join(digits, ",")+"]")
}

// nanos returns an expression for a point in time.
func (p params) nanos(t int64) string {
	return fmt.Sprintf("fromUnixTimestamp64Nano(%s, 'UTC')", p.num(t))
}

// escaper writes a string as the engine reads parameters: ClickHouse's TabSeparated format.
var escaper = strings.NewReplacer("\\", "\\\\", "'", "\\'", "\n", "\\n", "\t", "\\t", "\r", "\\r", "\x00", "\\0", "\b", "\\b", "\f", "\\f")

func escape(s string) string { return escaper.Replace(s) }
