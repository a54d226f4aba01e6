// Package whole replaces files as a whole: whoever reads one, after a power failure
// too, finds what was there before or what was written, and never a part.
package whole

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces a file, which gets mode 0600. Its folder must be there. On an error
// the file is as it was.
func Write(path string, b []byte) error { return write(path, b, (*os.File).Sync) }

// WriteSoon is Write for what need not survive the end of the host: what was written
// outlives this process, and the host only by luck.
func WriteSoon(path string, b []byte) error {
	return write(path, b, func(*os.File) error { return nil })
}

func write(path string, b []byte, settle func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, settle(f), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
