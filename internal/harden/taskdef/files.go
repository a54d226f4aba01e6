package taskdef

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/harden/intent"
	"github.com/castellan-security/castellan/internal/profile"
)

// tmpfsMiB is the size of a folder in memory, which counts as the container's:
// enough for what is temporary.
const tmpfsMiB = 64

// maxFolders bounds the folders that get a place of their own: a task definition
// has 64 KiB.
const maxFolders = 50

// engineFiles are mounted by the engine, and can be written on a read-only root.
var engineFiles = []profile.Pattern{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}

// files makes the root read-only, if there is a place for all that is written.
func (h *hardener) files() error {
	mounts, err := h.mounts()
	if err != nil {
		return err
	}
	folders, blocked := h.folders(mounts)
	if len(blocked) > 0 {
		for _, b := range blocked {
			h.note(intent.Wider, profile.ControlFile, string(b), "the root stays writable: the group writes there, and a volume in its place would hide what the image has in %s; have it written below a folder of its own, and harden again", intent.Folder(b))
		}
		return nil
	}
	if len(folders) > maxFolders {
		h.note(intent.Wider, profile.ControlFile, "", "the root stays writable: the group writes in %d folders, and more than %d places of their own are too many", len(folders), maxFolders)
		return nil
	}
	h.set(h.c, h.place, "readonlyRootFilesystem", true, "what the group writes has folders of its own; nothing else of the root is written")
	for _, f := range folders {
		if err := h.room(f); err != nil {
			return err
		}
	}
	return nil
}

// mounts returns the folders that are something else than the root already, and
// whether they can be written.
func (h *hardener) mounts() (map[profile.Pattern]bool, error) {
	writable := map[profile.Pattern]bool{}
	points, err := h.listOf(h.c, h.place, "mountPoints")
	if err != nil {
		return nil, err
	}
	linux, err := h.objectOf(h.c, h.place, "linuxParameters")
	if err != nil {
		return nil, err
	}
	if linux != nil {
		tmpfs, err := h.listOf(linux, within(h.place, "linuxParameters"), "tmpfs")
		if err != nil {
			return nil, err
		}
		points = append(slices.Clone(points), tmpfs...)
	}
	for _, item := range points {
		o, ok := item.(*object)
		if !ok {
			return nil, invalid("read task definition: a mount of %s is no object", h.place)
		}
		target, _ := o.get("containerPath")
		if text, ok := target.(string); ok && strings.HasPrefix(text, "/") {
			writable[profile.Pattern(path.Clean(text))] = !isTrue(o, "readOnly")
		}
	}
	return writable, nil
}

// folders returns those that must be writable, and what is written where there can
// be none.
func (h *hardener) folders(mounts map[profile.Pattern]bool) (folders, blocked []profile.Pattern) {
	for _, f := range h.p.Writes {
		f.Path = h.unlinked(f)
		folder := intent.Folder(f.Path)
		if whole, ok := strings.CutSuffix(string(f.Path), "/**"); ok && !strings.Contains(whole, "*") && whole != "" {
			folder = profile.Pattern(whole)
		}
		names := f.Path.Names()
		switch mount, covered := covering(mounts, folder); {
		case len(names) > 0 && slices.Contains([]string{"dev", "proc", "sys"}, names[0]), slices.Contains(engineFiles, f.Path):
		case covered && mounts[mount]:
		case covered:
			h.note(intent.Narrower, profile.ControlFile, string(f.Path), "it is written, and %s is mounted read-only", mount)
		case intent.Shared(h.p, folder):
			blocked = append(blocked, f.Path)
		default:
			folders = append(folders, folder)
		}
	}
	slices.SortFunc(folders, func(a, b profile.Pattern) int { return strings.Compare(string(a)+"/", string(b)+"/") })
	var tops []profile.Pattern
	for _, f := range folders {
		if n := len(tops); n == 0 || !strings.HasPrefix(string(f)+"/", string(tops[n-1])+"/") {
			tops = append(tops, f)
		}
	}
	return tops, blocked
}

// links are folders that most images have as links to others.
var links = map[profile.Pattern]profile.Pattern{"/var/run": "/run", "/var/lock": "/run/lock"}

// unlinked returns the path of what is written, without a link that most images have: a
// place for each of /run and /var/run would hide the first behind the second. Hosts
// tell the real path: what was seen in such a folder was no link. What is only expected
// there, as profiles to begin with have it, goes to the other folder, if that is
// written at all.
func (h *hardener) unlinked(f profile.File) profile.Pattern {
	for link, to := range links {
		rest, ok := strings.CutPrefix(string(f.Path), string(link))
		if !ok || rest != "" && rest[0] != '/' || h.wasSeen(link) {
			continue
		}
		top := profile.Pattern("/" + to.Names()[0])
		if slices.ContainsFunc(h.p.Writes, func(o profile.File) bool { return (top + "/**").Covers(o.Path) }) {
			h.note(intent.Advice, profile.ControlFile, string(f.Path), "it was not seen there, and is taken for %s, to which most images have a link; if this one has a folder, give that a place, too", string(to)+rest)
			return to + profile.Pattern(rest)
		}
	}
	return f.Path
}

// wasSeen reports whether anything was seen to be written in a folder.
func (h *hardener) wasSeen(folder profile.Pattern) bool {
	return slices.ContainsFunc(h.p.Writes, func(f profile.File) bool { return f.Count > 0 && (folder + "/**").Covers(f.Path) })
}

// covering returns the lowest mount that a folder is in.
func covering(mounts map[profile.Pattern]bool, folder profile.Pattern) (best profile.Pattern, ok bool) {
	for m := range mounts {
		if (m == folder || m == "/" || (m + "/**").Covers(folder)) && (!ok || len(m) > len(best)) {
			best, ok = m, true
		}
	}
	return best, ok
}

// room gives a folder a place of its own: in memory, or as a volume.
func (h *hardener) room(folder profile.Pattern) error {
	below := folder + "/**"
	hides := slices.ContainsFunc(h.p.Reads, func(f profile.File) bool { return intent.Overlap(below, f.Path) })
	if !h.fargate && intent.Scratch(below) && !hides {
		return h.tmpfs(folder)
	}
	name := h.volumeName(folder)
	why := fmt.Sprintf("the group writes in %s, which is on the root", folder)
	if err := h.append(h.task, h.at, "volumes", of("name", name, "host", &object{}), why); err != nil {
		return err
	}
	if err := h.append(h.c, h.place, "mountPoints", of("sourceVolume", name, "containerPath", string(folder), "readOnly", false), why); err != nil {
		return err
	}
	text := "the engine puts into a new volume what the image has in that folder; it is gone with the task, as it was"
	if h.fargate {
		text = "on Fargate a volume is empty and root's, unless the image says VOLUME " + string(folder) + ": then it has the image's files with their owners"
	}
	h.note(intent.Advice, profile.ControlFile, string(folder), "%s", text)
	return nil
}

func (h *hardener) tmpfs(folder profile.Pattern) error {
	why := fmt.Sprintf("the group writes in %s, which is temporary: it is in memory, and counts as the container's", folder)
	linux, place, err := h.linux("for folders in memory")
	if err != nil {
		return err
	}
	options := []string{"rw", "nosuid", "nodev", "noexec"}
	below := folder + "/**"
	runs := slices.ContainsFunc(h.p.Executables, func(e profile.Executable) bool { return intent.Overlap(below, e.Path) })
	if runs || intent.Has(h.p, event.KindExecMap) {
		options = options[:len(options)-1]
		why += "; programs run from there"
	}
	if _, others := intent.Users(h.p); others {
		h.note(intent.Advice, profile.ControlFile, string(folder), "some engines give a folder in memory the mode of the image's folder: have the image make it writable for the users that write there")
	}
	return h.append(linux, place, "tmpfs", of("containerPath", string(folder), "size", number(tmpfsMiB), "mountOptions", texts(options...)), why)
}

// append adds an item to a list, which is made if it is not there.
func (h *hardener) append(o *object, place, key string, item any, reason string) error {
	items, err := h.listOf(o, place, key)
	if err != nil {
		return err
	}
	path := within(place, key)
	if len(items) > 0 {
		path = fmt.Sprintf("%s[%d]", path, len(items))
	}
	o.put(key, &list{items: append(slices.Clone(items), item)})
	h.changes = append(h.changes, Change{Path: path, After: encode(item), Reason: reason})
	return nil
}

// volumeName names the volume of a folder as no other of the task is named.
func (h *hardener) volumeName(folder profile.Pattern) string {
	const longest = 100 // ECS takes 255
	name := []byte("castellan")
	for i := range min(len(folder), longest) {
		c := folder[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' {
			name = append(name, c)
		} else {
			name = append(name, '-')
		}
	}
	taken := map[string]bool{}
	volumes, _ := h.listOf(h.task, h.at, "volumes") // what is no list is refused when the volume is added
	for _, v := range volumes {
		if o, ok := v.(*object); ok {
			n, _ := o.get("name")
			text, _ := n.(string)
			taken[text] = true
		}
	}
	unique := string(name)
	for i := 2; taken[unique]; i++ {
		unique = fmt.Sprintf("%s-%d", name, i)
	}
	return unique
}
