// Package ui holds the built page. web/ is its source, api/ serves it.
package ui

import (
	"embed"
	"io/fs"
)

//go:embed all:web/dist
var files embed.FS

// Files returns the built page, rooted at its index.html. It has no index.html if the page was not built: see Built.
func Files() fs.FS {
	sub, err := fs.Sub(files, "web/dist")
	if err != nil {
		panic(err) // the path is a constant that go:embed has checked
	}
	return sub
}

// Built reports whether the page was built before this binary was.
func Built() bool {
	_, err := fs.Stat(Files(), "index.html")
	return err == nil
}
