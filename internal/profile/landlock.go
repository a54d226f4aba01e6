package profile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/asset"
)

// Landlock is what a process confines itself to before it becomes the
// application: a profile, compiled for hosts that one can't put anything on,
// such as Fargate. Landlock only ever permits, a path with all that is below it;
// what is in no rule is refused. The zero value permits nothing.
type Landlock struct {
	Version  int         `json:"version"` // of this form, LandlockVersion
	Group    asset.Group `json:"group"`
	Revision int64       `json:"revision"` // of the profile
	// Paths are what may be done with files.
	Paths []LandlockPath `json:"paths"`
	// Without are files that the reading of a folder above them does not reach:
	// whoever applies the rules permits their neighbours one by one instead.
	Without []Pattern `json:"without,omitempty"`
	// Binds and Connects are the TCP ports that may be opened and connected to.
	Binds    []Ports `json:"tcp_bind"`
	Connects []Ports `json:"tcp_connect"`
	// AnyBind and AnyConnect permit all of them: there are too many for rules.
	AnyBind    bool `json:"tcp_bind_any,omitempty"`
	AnyConnect bool `json:"tcp_connect_any,omitempty"`
	// Unscoped lets signals and abstract unix sockets reach processes that are not
	// confined.
	Unscoped bool `json:"unscoped,omitempty"`
}

// LandlockVersion is the version of the form that this build writes and reads.
const LandlockVersion = 1

// LandlockPath permits something with a file, or a folder and all below it.
type LandlockPath struct {
	// Path has a "*" only within names of what must be there at the start: every
	// file that fits gets the rights.
	Path   Pattern         `json:"path"`
	Rights []LandlockRight `json:"rights"`
	// For is what of the profile it is for.
	For []Pattern `json:"for,omitempty"`
	// Files says that it is about files: what is below a folder that fits gets
	// nothing.
	Files bool `json:"files,omitempty"`
	// Optional says that it does not matter if there is no such path.
	Optional bool `json:"optional,omitempty"`
}

// LandlockRight is a set of what Landlock tells apart.
type LandlockRight string

// The rights.
const (
	LandlockList    LandlockRight = "list"    // see what is in folders
	LandlockRead    LandlockRight = "read"    // read files
	LandlockExecute LandlockRight = "execute" // run files
	LandlockWrite   LandlockRight = "write"   // change and cut files that are there
	LandlockMake    LandlockRight = "make"    // make, rename, link and delete files, folders, sockets
	LandlockDevice  LandlockRight = "device"  // send commands to devices (ioctl)
)

// LandlockRights lists every right.
func LandlockRights() []LandlockRight {
	return []LandlockRight{LandlockList, LandlockRead, LandlockExecute, LandlockWrite, LandlockMake, LandlockDevice}
}

// MaxLandlockPaths bounds the paths: programs, scripts, files written and read of
// a profile, and what every program needs.
const MaxLandlockPaths = 5 * MaxPatterns

// MaxPortRules bounds the ports of one list, counted one by one: the kernel has a
// rule for each.
const MaxPortRules = 4_096

// Check returns an error if l is not in a form that can be applied.
func (l *Landlock) Check() error {
	if l.Version != LandlockVersion {
		return fmt.Errorf("rules of version %d, want %d", l.Version, LandlockVersion)
	}
	if l.Group == "" {
		return fmt.Errorf("rules of no group")
	}
	if len(l.Paths) > MaxLandlockPaths || len(l.Without) > MaxPatterns {
		return fmt.Errorf("rules of %s have %d paths and %d without, want at most %d and %d", l.Group, len(l.Paths), len(l.Without), MaxLandlockPaths, MaxPatterns)
	}
	for _, p := range l.Paths {
		if err := p.check(); err != nil {
			return fmt.Errorf("rules of %s: %w", l.Group, err)
		}
	}
	for _, p := range l.Without {
		if err := p.Check(); err != nil {
			return fmt.Errorf("rules of %s: %w", l.Group, err)
		}
	}
	for what, ports := range map[string][]Ports{"binds": l.Binds, "connects": l.Connects} {
		n := 0
		for _, r := range ports {
			if r.First > r.Last {
				return fmt.Errorf("rules of %s: %s has the ports %d to %d", l.Group, what, r.First, r.Last)
			}
			n += int(r.Last) - int(r.First) + 1
		}
		if n > MaxPortRules {
			return fmt.Errorf("rules of %s: %s has %d ports, want at most %d", l.Group, what, n, MaxPortRules)
		}
	}
	return nil
}

func (p LandlockPath) check() error {
	if err := p.Path.Check(); err != nil {
		return err
	}
	if names := p.Path.Names(); len(names) > 0 && names[len(names)-1] == deep {
		return fmt.Errorf("%q ends with **: a rule is about all below its path anyway", p.Path)
	}
	if len(p.Rights) == 0 {
		return fmt.Errorf("%q has no rights", p.Path)
	}
	for _, r := range p.Rights {
		if !slices.Contains(LandlockRights(), r) {
			return fmt.Errorf("%q has the right %q, want some of %s", p.Path, r, words(LandlockRights()))
		}
	}
	return nil
}

func words(rights []LandlockRight) string {
	var s []string
	for _, r := range rights {
		s = append(s, string(r))
	}
	return strings.Join(s, ", ")
}
