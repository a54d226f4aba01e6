package authz

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// usualFor is how long what an engine says of its defaults is used: they change
// when it is restarted.
const usualFor = time.Minute

// usual is what an engine does where nothing is asked for.
type usual struct {
	mu     sync.Mutex
	until  time.Time
	cgroup bool // containers are in the host's cgroup namespace
}

// own takes out of a container that is there what the engine put there by itself:
// it tells what it does where nothing was asked for as if it had been asked for.
func (p *Plugin) own(ctx context.Context, h *hostConfig) error {
	// Where the host's processes or its IPC can be reached, labels are of no use.
	if h.Privileged || h.PidMode == hostMode || h.IpcMode == hostMode {
		h.SecurityOpt = slices.DeleteFunc(h.SecurityOpt, func(o string) bool { return o == "label=disable" })
	}
	if h.CgroupnsMode != hostMode {
		return nil
	}
	yes, err := p.sharesCgroups(ctx)
	if err != nil {
		return err
	}
	if yes {
		h.CgroupnsMode = ""
	}
	return nil
}

const hostMode = "host"

// sharesCgroups says that the engine gives no container a cgroup namespace of its
// own unless that is asked for, as engines do on cgroup v1.
func (p *Plugin) sharesCgroups(ctx context.Context) (bool, error) {
	p.usual.mu.Lock()
	defer p.usual.mu.Unlock()
	if time.Now().Before(p.usual.until) {
		return p.usual.cgroup, nil
	}
	raw, err := p.engine.Info(ctx)
	if err != nil {
		return false, err
	}
	var info struct{ SecurityOptions []string }
	if err := json.Unmarshal(raw, &info); err != nil {
		return false, fmt.Errorf("read settings of the engine: %w", err)
	}
	private := slices.ContainsFunc(info.SecurityOptions, func(o string) bool { return o == "name=cgroupns" || strings.HasPrefix(o, "name=cgroupns,") })
	p.usual.cgroup, p.usual.until = !private, time.Now().Add(usualFor)
	return !private, nil
}
