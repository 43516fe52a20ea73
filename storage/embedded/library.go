package embedded

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Version of the npm package that the library comes from; scripts/install-chdb.sh installs it.
const Version = "26.5.3"

// Library returns the path of libchdb.so. It looks at $PARALLAX_LIBCHDB, beside the binary (../lib) and in cacheDir
// (empty: $PARALLAX_CACHE, else ~/.cache/parallax), in this order, and installs nothing: the error says how to.
func Library(cacheDir string) (string, error) {
	if path := os.Getenv("PARALLAX_LIBCHDB"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("PARALLAX_LIBCHDB: %w", err)
		}
		return path, nil
	}
	var candidates []string
	if exe, err := os.Executable(); err == nil {
		candidates = append(candidates, filepath.Join(filepath.Dir(exe), "..", "lib", "libchdb.so"))
	}
	if cacheDir == "" {
		cacheDir = os.Getenv("PARALLAX_CACHE")
	}
	if cacheDir == "" {
		if home, err := os.UserHomeDir(); err == nil {
			cacheDir = filepath.Join(home, ".cache", "parallax")
		}
	}
	if cacheDir != "" {
		candidates = append(candidates, filepath.Join(cacheDir, "chdb-"+Version, "libchdb.so"))
	}
	for _, path := range candidates {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("libchdb.so: %w", err)
		}
	}
	return "", fmt.Errorf("the embedded ClickHouse engine (libchdb.so %s, linux/%s) is not installed: run `make deps`, "+
		"or set PARALLAX_LIBCHDB, or use another --storage", Version, runtime.GOARCH)
}

//go:embed config.xml
var configXML string

// writeConfig puts the engine's configuration into dir and returns its path. Without one of our own the library would
// read config.xml from the working directory.
func writeConfig(dir string, maxMemory int64) (string, error) {
	if maxMemory <= 0 {
		maxMemory = 2 << 30
	}
	path := filepath.Join(dir, "parallax.xml")
	if err := os.WriteFile(path, fmt.Appendf(nil, configXML, maxMemory), 0o640); err != nil {
		return "", fmt.Errorf("data directory can not be written: %w", err)
	}
	return path, nil
}
