package hubble

import (
	"errors"
	"fmt"
	"slices"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/parallax-flow/parallax/flow/filter"
)

// Extra is what a client of Parallax can ask beyond Hubble's request. It travels in GetFlowsRequest.extensions as a
// google.protobuf.Struct: {"allow": {...}, "deny": {...}, "secondary": true}.
type Extra struct {
	Allow, Deny ExtraFilter
	Secondary   bool // also send observations of traffic that is counted at another point
}

// ExtraFilter narrows every filter of the whitelist, or of the blacklist: {"drop_reason": ["NO_SOCKET"], "policy":
// ["shop/default-deny"], "text": ["cart"], "error": true}.
type ExtraFilter struct {
	DropReason []string // kernel's names
	Policy     []string // as filter.Filter has them
	Text       []string
	Error      *bool
}

func (e *ExtraFilter) isZero() bool {
	return len(e.DropReason) == 0 && len(e.Policy) == 0 && len(e.Text) == 0 && e.Error == nil
}

func (e *ExtraFilter) narrow(f *filter.Filter) {
	if len(e.DropReason) > 0 {
		f.DropReason = e.DropReason
	}
	if len(e.Policy) > 0 {
		f.Policy = e.Policy
	}
	if len(e.Text) > 0 {
		f.Text = e.Text
	}
	if e.Error != nil {
		f.Error = e.Error
	}
}

func (e *ExtraFilter) structure() *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for key, list := range map[string][]string{"drop_reason": e.DropReason, "policy": e.Policy, "text": e.Text} {
		if len(list) == 0 {
			continue
		}
		values := make([]*structpb.Value, len(list))
		for i, v := range list {
			values[i] = structpb.NewStringValue(clean(v))
		}
		s.Fields[key] = structpb.NewListValue(&structpb.ListValue{Values: values})
	}
	if e.Error != nil {
		s.Fields["error"] = structpb.NewBoolValue(*e.Error)
	}
	return s
}

// IsZero reports whether e asks for nothing.
func (e *Extra) IsZero() bool { return e.Allow.isZero() && e.Deny.isZero() && !e.Secondary }

// ToProto packs e, nil if it asks for nothing.
func (e *Extra) ToProto() (*anypb.Any, error) {
	if e.IsZero() {
		return nil, nil
	}
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	if !e.Allow.isZero() {
		s.Fields["allow"] = structpb.NewStructValue(e.Allow.structure())
	}
	if !e.Deny.isZero() {
		s.Fields["deny"] = structpb.NewStructValue(e.Deny.structure())
	}
	if e.Secondary {
		s.Fields["secondary"] = structpb.NewBoolValue(true)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	return &anypb.Any{TypeUrl: structURL, Value: b}, err
}

// ExtraFromProto unpacks what ToProto packed. Another message, an unknown key and a value of the wrong type are errors.
func ExtraFromProto(a *anypb.Any) (Extra, error) {
	var e Extra
	if a == nil {
		return e, nil
	}
	s, err := unpack(a)
	if err != nil {
		return e, err
	}
	if s == nil {
		return e, fmt.Errorf("extensions: %s is not a google.protobuf.Struct", a.GetTypeUrl())
	}
	for key, v := range s.GetFields() {
		switch key {
		case "allow":
			err = e.Allow.read(v)
		case "deny":
			err = e.Deny.read(v)
		case "secondary":
			e.Secondary, err = readBool(v)
		default:
			err = errors.New("is not one of allow, deny, secondary")
		}
		if err != nil {
			return e, fmt.Errorf("extensions: %s: %w", key, err)
		}
	}
	return e, nil
}

func (e *ExtraFilter) read(v *structpb.Value) error {
	if v.GetStructValue() == nil {
		return errors.New("is not an object")
	}
	for key, v := range v.GetStructValue().GetFields() {
		var err error
		switch key {
		case "drop_reason":
			e.DropReason, err = readStrings(v)
		case "policy":
			e.Policy, err = readStrings(v)
		case "text":
			e.Text, err = readStrings(v)
		case "error":
			var b bool
			b, err = readBool(v)
			e.Error = &b
		default:
			err = errors.New("is not one of drop_reason, policy, text, error")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func readBool(v *structpb.Value) (bool, error) {
	if _, ok := v.GetKind().(*structpb.Value_BoolValue); !ok {
		return false, errors.New("is not true or false")
	}
	return v.GetBoolValue(), nil
}

func readStrings(v *structpb.Value) ([]string, error) {
	var out []string
	for _, item := range v.GetListValue().GetValues() {
		if _, ok := item.GetKind().(*structpb.Value_StringValue); !ok {
			return nil, errors.New("is not a list of strings")
		}
		out = append(out, item.GetStringValue())
	}
	if len(out) == 0 {
		return nil, errors.New("is not a list of strings")
	}
	return out, nil
}

// SetFromRequest returns what req selects: its whitelist, blacklist and extensions. Errors carry a gRPC status.
func SetFromRequest(req *observerpb.GetFlowsRequest) (filter.Set, error) {
	extra, err := ExtraFromProto(req.GetExtensions())
	if err != nil {
		return filter.Set{}, status.Error(codes.InvalidArgument, err.Error())
	}
	set := filter.Set{Secondary: extra.Secondary}
	if set.Allow, err = FiltersFromProto(req.GetWhitelist()); err != nil {
		return filter.Set{}, err
	}
	if set.Deny, err = FiltersFromProto(req.GetBlacklist()); err != nil {
		return filter.Set{}, err
	}
	set.Allow = narrowAll(set.Allow, &extra.Allow)
	set.Deny = narrowAll(set.Deny, &extra.Deny)
	return set, nil
}

func narrowAll(filters []filter.Filter, by *ExtraFilter) []filter.Filter {
	if by.isZero() {
		return filters
	}
	if len(filters) == 0 {
		filters = []filter.Filter{{}}
	}
	filters = slices.Clone(filters)
	for i := range filters {
		by.narrow(&filters[i])
	}
	return filters
}
