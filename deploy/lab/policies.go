package lab

import (
	"bytes"
	_ "embed"
)

//go:embed policies.yaml
var policies []byte

// Policies returns NetworkPolicy objects for the lab's workloads, as YAML: they allow all that the lab's scenario does,
// but for shop/recommend's way to data/postgres.
func Policies() []byte { return bytes.Clone(policies) }
