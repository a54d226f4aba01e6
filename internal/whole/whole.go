// Package whole replaces files as a whole: whoever reads one, after a power failure
// too, finds what was there before or what was written, and never a part.
package whole

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// begun is how names of files begin that are not whole yet.
const begun = ".new-"

// Write replaces a file, which gets mode 0600. Its folder must be there. On an error
// the file is as it was.
func Write(path string, b []byte) error { return write(path, b, (*os.File).Sync) }

// WriteSoon is Write for what need not survive the end of the host: what was written
// outlives this process, and the host only by luck.
func WriteSoon(path string, b []byte) error {
	return write(path, b, func(*os.File) error { return nil })
}

func write(path string, b []byte, settle func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), begun+"*") // made with mode 0600
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

// left is how old a file that is not whole is when nobody writes it any more.
const left = time.Hour

// Sweep removes from a folder, and from those right below it, what programs left there
// that were killed while they wrote a file.
func Sweep(dir string) error { return sweep(dir, 1, time.Now().Add(-left)) }

func sweep(dir string, deep int, before time.Time) error {
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() && deep > 0 {
			errs = append(errs, sweep(path, deep-1, before))
		}
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), begun) {
			continue
		}
		info, err := e.Info()
		if err == nil && info.ModTime().Before(before) {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
