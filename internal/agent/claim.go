package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/castellan-security/castellan/internal/fault"
)

// claimFile is locked by the agent that runs with a data folder.
const claimFile = "agent.lock"

// Claim makes this process the one agent of a data folder, until it ends, however it
// ends, or closes what is returned. Two would undo what the other puts in force, and be
// one agent to the server. Conflict: another one runs, one that is stopped included.
func Claim(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, claimFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fault.New(fault.Denied, "claim the data folder: %w", err).With("let the agent write its data folder")
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fault.New(fault.Conflict, "another agent runs with the data in %s", dir).
			With("end it before; fuser -v " + f.Name() + " says which process it is, one that is stopped has to be killed")
	} else {
		err = fmt.Errorf("claim the data folder: %w", err)
	}
	return nil, errors.Join(err, f.Close())
}
