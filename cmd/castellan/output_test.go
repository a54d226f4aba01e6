package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A report that goes to a pipe or device goes through it: a file in the place of
// /dev/null would be found by everybody on the machine.
func TestWhatIsNoFileIsWrittenThrough(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() {
		b, err := os.ReadFile(pipe)
		if err != nil {
			b = []byte(err.Error())
		}
		read <- string(b)
	}()
	err := writeWhole(pipe, true, func(w io.Writer) error {
		_, err := io.WriteString(w, "report")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-read; got != "report" {
		t.Errorf("the pipe gave %q", got)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe is now %v, %v", info.Mode(), err)
	}
}
