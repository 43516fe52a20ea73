package metrics

import (
	"net/netip"

	"github.com/parallax-flow/parallax/flow"
)

// contextLabels are the labels that say between whom, in each family. They are those of Hubble with
// sourceContext=workload|dns|reserved-identity, the same for the destination, and
// labelsContext=source_namespace,source_workload,destination_namespace,destination_workload.
var contextLabels = [...]string{"source", "destination", "source_namespace", "destination_namespace", "source_workload", "destination_workload"}

// between begins a family's values with those of the context labels, followed by own.
func between(k *key, own ...string) (v values) {
	v[0], v[2], v[4] = party(k.src)
	v[1], v[3], v[5] = party(k.dst)
	copy(v[len(contextLabels):], own)
	return v
}

// party names e: "namespace/workload", the workload's name alone where there is no namespace, else a DNS name, else what kind of thing it is
// in the words of Hubble's reserved identities. An address is no name: there are too many of them.
func party(e *flow.Endpoint) (name, namespace, workload string) {
	if e == nil {
		return "reserved:unknown", "", ""
	}
	workload = e.Workload
	if workload == "" {
		workload = e.Pod
	}
	name = workload
	if _, err := netip.ParseAddr(e.Name); name == "" && err != nil {
		name = e.Name
	}
	switch {
	case name != "" && e.Namespace != "":
		name = e.Namespace + "/" + name
	case name == "":
		name = "reserved:" + e.Kind.String()
	}
	return name, e.Namespace, workload
}
