// Package dashboards holds what Parallax brings for Prometheus and Grafana: dashboards, recording and alert rules, provisioning.
// They are files for people to copy; the package reads them for those who deploy or test them.
package dashboards

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Files are the dashboards, the rules and the provisioning.
//
//go:embed *.json prometheus.yml rules/*.yaml provisioning
var Files embed.FS

// Dashboard is what is read of a dashboard.
type Dashboard struct {
	File          string `json:"-"`
	UID           string
	Title         string
	SchemaVersion int
	Templating    struct{ List []Variable }
	Panels        []Panel
}

// Variable is one that a person can choose.
type Variable struct {
	Name, Type string
	Query      json.RawMessage // a text or an object, by Type
}

// Panel is a panel or the heading of a row.
type Panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Datasource  struct{ UID string }
	Targets     []Target
}

// Target is one query of a panel.
type Target struct {
	RefID string
	Expr  string // PromQL with Grafana's variables
}

// All returns the dashboards in the order of their files' names.
func All() ([]Dashboard, error) {
	names, err := fs.Glob(Files, "*.json")
	if err != nil {
		return nil, err
	}
	var all []Dashboard
	for _, name := range names {
		text, err := Files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		d := Dashboard{File: name}
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, d)
	}
	return all, nil
}

// Rule is a recording rule (Record is set) or an alert (Alert is set).
type Rule struct {
	File        string `yaml:"-"`
	Record      string
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

// Name is the name of the metric or alert.
func (r *Rule) Name() string { return r.Record + r.Alert }

// Rules returns all rules in the order in which they are written.
func Rules() ([]Rule, error) {
	names, err := fs.Glob(Files, "rules/*.yaml")
	if err != nil {
		return nil, err
	}
	var all []Rule
	for _, name := range names {
		text, err := Files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var file struct{ Groups []struct{ Rules []Rule } }
		if err := yaml.Unmarshal(text, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				r.File, r.Expr = name, strings.TrimSpace(r.Expr)
				all = append(all, r)
			}
		}
	}
	return all, nil
}
