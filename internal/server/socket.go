package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/account"
)

// maxSocketPath is what the kernel takes: sun_path of unix(7) with its NUL.
const maxSocketPath = 107

// SocketPath returns where a server with that data folder listens for the
// command line of its own host.
func SocketPath(dataDir string) string { return filepath.Join(dataDir, "castellan.sock") }

// listenLocal opens the socket for its owner alone. What a server that died
// left behind is removed; a socket that answers is not.
func listenLocal(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fault.New(fault.Invalid, "listen on %s: the path has %d bytes, a socket's may have %d", path, len(path), maxSocketPath).
			With("choose a data folder with a shorter path: --data-dir")
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// The folder is 0700, so nobody gets in between; and every connection's
	// user is checked anyway.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return l, nil
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.New(fault.Conflict, "listen on %s: something that is no socket lies there", path).
			With("move it away, or choose another data folder: --data-dir")
	}
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		return errors.Join(fault.New(fault.Conflict, "listen on %s: another server uses this data folder", path).
			With("stop the other server, or choose another data folder: --data-dir"), c.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of a server that is gone: %w", err)
	}
	return nil
}

// localServer serves the API to users of this host that the kernel vouches for.
func (s *Server) localServer() *http.Server {
	h := s.httpServer(s.local)
	h.TLSConfig = nil
	h.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		uid, err := peerUID(c)
		if err != nil {
			s.log.Warn("peer of a local connection unknown", "error", err)
			return ctx
		}
		if uid != 0 && int(uid) != os.Geteuid() {
			s.log.Warn("local connection of another user refused", "uid", uid)
			return ctx
		}
		return account.With(ctx, localIdentity(uid), "")
	}
	return h
}

// localIdentity is the administrator that the kernel vouches for: whoever can
// be root on the server's host can read and change its files anyway.
func localIdentity(uid uint32) access.Identity {
	id := strconv.FormatUint(uint64(uid), 10)
	name := "root"
	if uid != 0 {
		name = "uid " + id
	}
	return access.Identity{
		Actor: "local:" + id, Name: name, Role: access.Administrator, Scopes: access.Administrator.Scopes(),
	}
}

// peerUID asks the kernel who is at the other end: SO_PEERCRED of unix(7).
func peerUID(c net.Conn) (uint32, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("connection %T has no file descriptor", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("reach the socket: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("ask for the peer's user: %w", err)
	}
	return cred.Uid, nil
}
