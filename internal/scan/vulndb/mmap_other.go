//go:build !unix

package vulndb

// mapFile reads the file: this platform is for scanning from a desk, where that
// is quick enough.
func mapFile(path string) ([]byte, func() error, error) { return readFile(path) }
