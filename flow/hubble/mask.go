package hubble

import (
	"fmt"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// Mask keeps some fields of a flow. The zero Mask keeps all.
type Mask struct{ keep maskNode }

// maskNode maps a field to what to keep below it; nil keeps all.
type maskNode map[protoreflect.Name]maskNode

// NewMask compiles the paths of m, such as "time" or "source.pod_name". A path that Flow lacks, or that goes through a list, is an error.
func NewMask(m *fieldmaskpb.FieldMask) (Mask, error) {
	if len(m.GetPaths()) == 0 {
		return Mask{}, nil
	}
	var mask Mask
	mask.keep = maskNode{}
	for _, path := range m.GetPaths() {
		if !(&fieldmaskpb.FieldMask{Paths: []string{path}}).IsValid(&flowpb.Flow{}) {
			return Mask{}, fmt.Errorf("field_mask: a flow has no field %q", path)
		}
		mask.keep.add(strings.Split(path, "."))
	}
	return mask, nil
}

func (n maskNode) add(path []string) {
	name := protoreflect.Name(path[0])
	child, found := n[name]
	switch {
	case found && child == nil: // all of it is kept already
	case len(path) == 1:
		n[name] = nil
	default:
		if !found {
			child = maskNode{}
			n[name] = child
		}
		child.add(path[1:])
	}
}

// Apply removes from f what the mask does not keep.
func (m Mask) Apply(f *flowpb.Flow) {
	if m.keep != nil {
		m.keep.prune(f.ProtoReflect())
	}
}

func (n maskNode) prune(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		child, keep := n[field.Name()]
		switch {
		case !keep:
			m.Clear(field)
		case child != nil:
			child.prune(v.Message())
		}
		return true
	})
}
