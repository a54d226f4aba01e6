// Package systemd is the service manager that started this program: it is told when the
// program is ready, and again and again that it is alive (sd_notify(3)).
package systemd

import (
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Manager is the service manager. It may be used by several goroutines at once.
type Manager struct {
	every time.Duration
}

// Open returns the service manager that started this process, or nil if it asked for no
// word from it (NOTIFY_SOCKET). It wants to be told that the process is alive if the
// unit has WatchdogSec. The error says that the environment is not what systemd makes.
func Open() (*Manager, error) {
	asked, err := daemon.SdNotify(false, "STATUS=starting")
	if err != nil {
		return nil, fmt.Errorf("tell the service manager: %w", err)
	}
	if !asked {
		return nil, nil
	}
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("read for how long the service manager waits (WATCHDOG_USEC, WATCHDOG_PID): %w", err)
	}
	// As sd_watchdog_enabled(3) advises.
	return &Manager{every: limit / 2}, nil
}

// Every is how often Alive is to be called; 0: not at all.
func (m *Manager) Every() time.Duration { return m.every }

// Ready says that the start is over: units that are ordered after this one may start.
func (m *Manager) Ready() error { return tell(daemon.SdNotifyReady + "\nSTATUS=watching") }

// Alive says that this process does what it is there for. If it is not said for the time
// of WatchdogSec, the manager ends the process and starts it anew.
func (m *Manager) Alive() error { return tell(daemon.SdNotifyWatchdog) }

// Stopping says that the process is about to end, as it was told to.
func (m *Manager) Stopping() error { return tell(daemon.SdNotifyStopping + "\nSTATUS=stopping") }

var errGone = errors.New("NOTIFY_SOCKET is not set any more")

func tell(state string) error {
	asked, err := daemon.SdNotify(false, state)
	if err == nil && !asked {
		err = errGone
	}
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}
