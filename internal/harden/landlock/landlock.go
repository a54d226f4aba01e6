// Package landlock writes a profile of behaviour as rules for Landlock, which
// castellan harden run puts in force before it becomes the application: for
// Fargate and other hosts that nothing else can be put on.
//
// Landlock permits and never refuses within what it permitted, knows folders and
// no names that are yet to come, and TCP ports alone. Where that is more or less
// than the profile, a note says so.
package landlock

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/profile"
)

// Write returns the rules as JSON, and what they can't say.
func Write(p *profile.Profile) (string, []intent.Note, error) {
	l, notes := Compile(p)
	if err := l.Check(); err != nil {
		return "", nil, fmt.Errorf("write Landlock rules: %w", err)
	}
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return "", nil, fmt.Errorf("write Landlock rules: %w", err)
	}
	return string(b) + "\n", notes, nil
}

// compiler gathers the rules of one profile.
type compiler struct {
	p     *profile.Profile
	paths map[profile.Pattern]*profile.LandlockPath
	notes []intent.Note
}

// Compile returns the rules for a profile.
func Compile(p *profile.Profile) (profile.Landlock, []intent.Note) {
	c := &compiler{p: p, paths: map[profile.Pattern]*profile.LandlockPath{}}
	l := profile.Landlock{Version: profile.LandlockVersion, Group: p.Group, Revision: p.Revision}
	c.permit("/", "", "", profile.LandlockList, profile.LandlockRead)
	for _, device := range []profile.Pattern{"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"} {
		c.permit("/dev/"+device, "", file, profile.LandlockWrite, profile.LandlockDevice)
	}
	c.permit("/dev/pts", "", optional, profile.LandlockWrite, profile.LandlockDevice)
	l.Without = c.without()
	c.executables()
	c.writes()
	if intent.Has(p, event.KindDevice) {
		c.permit("/dev", "", "", profile.LandlockWrite, profile.LandlockDevice)
		c.note(intent.Wider, profile.ControlPrivilege, "/dev", "any device that the container has: %s was learned", event.KindDevice)
	}
	c.network(&l)
	c.unsaid()
	for _, path := range c.paths {
		slices.Sort(path.For)
		path.For = slices.Compact(path.For)
		l.Paths = append(l.Paths, *path)
	}
	slices.SortFunc(l.Paths, func(a, b profile.LandlockPath) int {
		if a.Path == b.Path && a.Files != b.Files { // the folder first
			if a.Files {
				return 1
			}
			return -1
		}
		return strings.Compare(string(a.Path), string(b.Path))
	})
	c.reopened(&l)
	return l, c.notes
}

func (c *compiler) note(e intent.Effect, control profile.Control, about profile.Pattern, format string, args ...any) {
	c.notes = append(c.notes, intent.Note{Effect: e, Control: control, About: string(about), Text: fmt.Sprintf(format, args...)})
}

// what says what a path is: a folder that is or will be there, unless it is said.
type what string

const (
	optional what = "optional" // a folder that need not be there
	file     what = "file"     // a file that need not be there; a folder of that name gets nothing
)

// permit adds rights of a path, which are for an entry of the profile.
func (c *compiler) permit(path, entry profile.Pattern, is what, rights ...profile.LandlockRight) {
	key := path
	if is == file {
		key += "\x00" // beside a rule about a folder of that name
	}
	at := c.paths[key]
	if at == nil {
		at = &profile.LandlockPath{Path: path, Optional: is != "", Files: is == file}
		c.paths[key] = at
	}
	at.Optional = at.Optional && is != ""
	if entry != "" && entry != path {
		at.For = append(at.For, entry)
	}
	var all []profile.LandlockRight
	for _, r := range profile.LandlockRights() {
		if slices.Contains(rights, r) || slices.Contains(at.Rights, r) {
			all = append(all, r)
		}
	}
	at.Rights = all
}

// below returns the folder whose whole content a pattern stands for.
func below(p profile.Pattern) (folder profile.Pattern, ok bool) {
	s, ok := strings.CutSuffix(string(p), "/**")
	if s == "" {
		s = "/"
	}
	return profile.Pattern(s), ok
}

// homes are where users' files are.
var homes = []profile.Pattern{"/root", "/home/*"}

// without are the sensitive files that are at places which are known before.
// Those that are read are permitted by rules of their own.
func (c *compiler) without() (all []profile.Pattern) {
	unread, read := intent.Unread(c.p)
	for _, s := range append(unread, read...) {
		switch {
		case s.Path == "/proc/kcore" || strings.HasPrefix(string(s.Path), "/proc/"):
		case !s.Anywhere || strings.HasPrefix(string(s.Path), "/etc/"):
			all = append(all, s.Path)
		default:
			for _, h := range homes {
				all = append(all, h+s.Path)
			}
			if s.Name == "keys" {
				all = append(all, "/etc/ssh"+s.Path)
				for _, h := range homes {
					all = append(all, h+"/.ssh"+s.Path)
				}
			}
		}
	}
	for _, f := range c.p.Reads {
		if folder, ok := below(f.Path); ok {
			c.permit(folder, f.Path, optional, profile.LandlockRead)
			continue
		}
		c.permit(f.Path, "", file, profile.LandlockRead)
	}
	if len(c.p.Reads) > 0 {
		c.note(intent.Narrower, profile.ControlFile, "", "sensitive files that are learned to be read can be read if they are there at the start: one that is put anew in the place of another can't")
	}
	c.note(intent.Wider, profile.ControlFile, "", "sensitive files may be read in /proc (environ, mem), in places other than /etc, /root, /home and /run/secrets, and if their ending alone tells them (%s)", intent.ByEnding)
	c.note(intent.Narrower, profile.ControlFile, "", "files that others put into /etc, /root, /home, /run or their folders with sensitive files after the start can't be read: what is beside a sensitive file is permitted one by one at the start")
	slices.Sort(all)
	return slices.Compact(all)
}

// reopened notes the sensitive files that lie in folders in which the group
// writes, and reads what it wrote.
func (c *compiler) reopened(l *profile.Landlock) {
	for _, r := range l.Paths {
		if r.Path == "/" || r.Files || !slices.Contains(r.Rights, profile.LandlockRead) {
			continue
		}
		for _, w := range l.Without {
			if intent.Overlap(r.Path+"/**", w) {
				c.note(intent.Wider, profile.ControlFile, w, "it may be read all the same: it lies in %s, where what the group writes can be read", r.Path)
			}
		}
	}
}

func (c *compiler) executables() {
	for _, e := range c.p.Executables {
		for _, path := range append([]profile.Pattern{e.Path}, e.Scripts...) {
			c.runnable(e, path)
		}
	}
	c.note(intent.Wider, profile.ControlExec, "", "a program that is linked dynamically needs the loader (ld.so), which can be asked to run any file that can be read; what is mapped as code is not held")
	c.note(intent.Wider, profile.ControlExec, "", "files in memory (memfd) may run: Landlock knows files of file systems alone")
}

// runnable permits running what a pattern stands for.
func (c *compiler) runnable(e profile.Executable, path profile.Pattern) {
	if folder, ok := below(path); ok {
		c.permit(folder, path, "", profile.LandlockExecute)
		return
	}
	switch e.Origin {
	case event.OriginImage:
		c.permit(path, e.Path, file, profile.LandlockExecute)
	case event.OriginMemory: // always permitted
	default:
		folder := intent.Folder(path)
		if folder == "/" || intent.Shared(c.p, folder) {
			c.permit(path, e.Path, file, profile.LandlockExecute)
			c.note(intent.Narrower, profile.ControlExec, path, "it runs if it is there at the start, not if it comes later: to permit that would permit all in %s", folder)
			return
		}
		c.permit(folder, path, "", profile.LandlockExecute)
		c.note(intent.Wider, profile.ControlExec, path, "anything in %s may run: it does not come with the image, and files that are yet to come can't be told apart", folder)
	}
}

func (c *compiler) writes() {
	change := []profile.LandlockRight{profile.LandlockList, profile.LandlockRead, profile.LandlockWrite, profile.LandlockMake}
	for _, f := range c.p.Writes {
		folder := intent.Folder(f.Path)
		all, whole := below(f.Path)
		names := f.Path.Names()
		switch {
		case whole && all.Exact():
			c.permit(all, f.Path, "", change...)
		case len(names) > 0 && (names[0] == "proc" || names[0] == "sys"):
			c.permit(folder, f.Path, "", profile.LandlockWrite)
			c.note(intent.Wider, profile.ControlFile, f.Path, "anything in %s may be written as far as the kernel itself lets the user: files that are yet to come can't be told apart", folder)
		case folder == "/dev" && !whole:
			c.permit(f.Path, "", file, profile.LandlockWrite) // a device, or a file of the engine's
		case whole && intent.Shared(c.p, folder):
			c.permit(all, f.Path, optional, change...)
			c.note(intent.Narrower, profile.ControlFile, f.Path, "it may be written in folders that are there at the start, not in those that come later: to permit that would permit it for all in %s", folder)
		case intent.Shared(c.p, folder):
			c.permit(f.Path, "", file, profile.LandlockRead, profile.LandlockWrite)
			c.note(intent.Narrower, profile.ControlFile, f.Path, "it may be changed if it is there at the start, not made, renamed or deleted: to permit that would permit it for all in %s", folder)
		default:
			c.permit(folder, f.Path, "", change...)
			c.note(intent.Wider, profile.ControlFile, f.Path, "anything in %s may be changed: Landlock permits folders, and files that are yet to come can't be told apart", folder)
		}
	}
	c.note(intent.Wider, profile.ControlFile, "", "modes, owners and times of any file may be changed as far as the user may: Landlock does not look at that")
}

func (c *compiler) network(l *profile.Landlock) {
	n := intent.NetworkOf(c.p)
	l.Binds, l.Connects = n.Binds, n.Connects
	if count(l.Binds) > profile.MaxPortRules {
		l.Binds, l.AnyBind = []profile.Ports{}, true
		c.note(intent.Wider, profile.ControlNetwork, "tcp_bind", "any TCP port may be opened: the profile has more than %d", profile.MaxPortRules)
	}
	if count(l.Connects) > profile.MaxPortRules {
		l.Connects, l.AnyConnect = []profile.Ports{}, true
		c.note(intent.Wider, profile.ControlNetwork, "tcp_connect", "any TCP port may be connected to: the profile has more than %d", profile.MaxPortRules)
	}
	c.note(intent.Wider, profile.ControlNetwork, "", "UDP, ICMP and raw sockets are not held, and TCP by ports alone: Landlock knows neither addresses nor names")
}

func count(ports []profile.Ports) (n int) {
	for _, r := range ports {
		n += int(r.Last) - int(r.First) + 1
	}
	return n
}

// unsaid notes what the rules don't hold, and what goes against the profile.
func (c *compiler) unsaid() {
	if why := intent.GainsByExec(c.p); why != "" {
		c.note(intent.Narrower, profile.ControlPrivilege, "", "programs can't give rights to who runs them (set-uid, file capabilities), and the profile has one: %s", why)
	}
	if intent.Has(c.p, event.KindMount, event.KindUmount, event.KindPivotRoot) {
		c.note(intent.Narrower, profile.ControlPrivilege, "", "nothing can be mounted or unmounted by who is confined, and the profile has it")
	}
	c.note(intent.Wider, profile.ControlExec, "", "any program may start any of these, as any user: who starts what is not held")
	c.note(intent.Wider, profile.ControlPrivilege, "", "system calls and capabilities are not Landlock's; a process that is confined can trace none that is less so")
	c.note(intent.Wider, profile.ControlResource, "", "limits are not Landlock's: the task definition has them")
}
