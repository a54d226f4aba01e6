package vulndb

import "os"

// readFile is for where a file cannot be mapped.
func readFile(path string) ([]byte, func() error, error) {
	data, err := os.ReadFile(path)
	return data, func() error { return nil }, err
}
