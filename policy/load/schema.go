package load

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// conform reports everything in tree that a value of type t cannot hold, with its path. The JSON decoders know neither
// the index in a list nor, for some types, the field.
func conform(tree any, t reflect.Type, path string, report func(path, text string)) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if text, special := conformSpecial(tree, t); special {
		if text != "" {
			report(path, text)
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		conformStruct(tree, t, path, report)
	case reflect.Map:
		m, ok := tree.(map[string]any)
		if !ok {
			report(path, "is not an object, but "+describe(tree))
		}
		for _, k := range sortedKeys(m) {
			conform(m[k], t.Elem(), path+"["+strconv.Quote(k)+"]", report)
		}
	case reflect.Slice:
		list, ok := tree.([]any)
		if !ok {
			report(path, "is not a list, but "+describe(tree))
		}
		for i, v := range list {
			conform(v, t.Elem(), fmt.Sprintf("%s[%d]", path, i), report)
		}
	default:
		if text := conformScalar(tree, t); text != "" {
			report(path, text)
		}
	}
}

// conformSpecial knows the types with a JSON form of their own.
func conformSpecial(tree any, t reflect.Type) (text string, special bool) {
	var want string
	switch t {
	case reflect.TypeFor[intstr.IntOrString]():
		if _, ok := tree.(string); ok {
			return "", true
		}
		return conformScalar(tree, reflect.TypeFor[int32]()), true
	case reflect.TypeFor[metav1.Time]():
		want = "a time such as 2026-01-31T12:00:00Z"
	case reflect.TypeFor[metav1.FieldsV1]():
		want = "an object"
	default:
		return "", false
	}
	raw, err := json.Marshal(tree)
	if err == nil {
		err = json.Unmarshal(raw, reflect.New(t).Interface())
	}
	if err != nil {
		return "is not " + want + ", but " + describe(tree), true
	}
	return "", true
}

func conformStruct(tree any, t reflect.Type, path string, report func(path, text string)) {
	m, ok := tree.(map[string]any)
	if !ok {
		report(path, "is not an object, but "+describe(tree))
		return
	}
	fields := make(map[string]reflect.Type)
	jsonFields(t, fields)
	for _, k := range sortedKeys(m) {
		field, known := fields[k]
		switch {
		case !known:
			report(join(path, k), "is not a field of "+t.Name())
		case m[k] != nil: // null is the same as missing, as for the API server
			conform(m[k], field, join(path, k), report)
		}
	}
}

// jsonFields adds the fields of t by their names in JSON.
func jsonFields(t reflect.Type, fields map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && (f.Anonymous || strings.Contains(opts, "inline")) {
			jsonFields(f.Type, fields)
		} else {
			fields[name] = f.Type
		}
	}
}

// conformScalar returns what is wrong with a value for a text, number or switch.
func conformScalar(tree any, t reflect.Type) string {
	ok, want := false, ""
	switch t.Kind() {
	case reflect.String:
		_, ok = tree.(string)
		want = "a text (put it in quotes)"
	case reflect.Bool:
		_, ok = tree.(bool)
		want = "true or false"
	default:
		n, isNumber := tree.(json.Number)
		_, err := strconv.ParseInt(n.String(), 10, t.Bits())
		ok = isNumber && err == nil
		want = "a whole number"
		if isNumber {
			want += fmt.Sprintf(" of %d bits", t.Bits())
		}
	}
	if ok {
		return ""
	}
	return "is not " + want + ", but " + describe(tree)
}
