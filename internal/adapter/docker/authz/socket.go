package authz

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// DefaultSocket is where engines look for a plugin of the name castellan.
const DefaultSocket = "/run/docker/plugins/castellan.sock"

// answersWithin is how long another plugin at the same socket may take to show
// that it is there.
const answersWithin = 2 * time.Second

// Listen opens the socket at path, which only root may use. What an earlier
// plugin left there is removed; a plugin that still answers there is an error of
// kind Conflict.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of plugin socket: %w", err)
	}
	if err := makeRoom(ctx, path); err != nil {
		return nil, err
	}
	// Made beside and renamed: at its name it never has other rights than its own,
	// and an engine that looks for it never finds one that does not listen.
	beside := path + ".new"
	if err := os.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("clear plugin socket: %w", err)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", beside)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "open plugin socket: %w", err).With("run the agent as root; is the path shorter than 100 characters?")
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // its name is another; it stays, so that the engine refuses
	}
	err = os.Chmod(beside, 0o600)
	if err == nil {
		err = os.Rename(beside, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open plugin socket: %w", err), l.Close())
	}
	return l, nil
}

// makeRoom makes room at path.
func makeRoom(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at plugin socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.New(fault.Conflict, "%s is there and no socket", path).With("remove it, or name another socket")
	}
	d := net.Dialer{Timeout: answersWithin}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(fault.New(fault.Conflict, "another plugin answers at %s", path).With("end the other agent first, or name another socket"), c.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil // left by a plugin that is gone; the rename below takes its place
	}
	return fmt.Errorf("ask who is at plugin socket: %w", err)
}
