// Package deletion finds who destroys data: many files are deleted over many folders,
// or overwritten by tools that are for that.
package deletion

import (
	"fmt"
	"slices"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxTrees = 256
	maxFiles = 20_000 // of a tree
	maxMade  = 64 << 10
	keepMade = time.Hour // what was made so long ago is data, not work in progress
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "ransom-deletion", Theme: "ransom", Title: "Many files are being destroyed", Severity: finding.High,
		Tactic: threat.Impact, Techniques: []string{"T1485", "T1561"}, Kinds: []event.Kind{event.KindFileCreate, event.KindFileWrite, event.KindFileDelete},
		Meaning:    "A process tree deleted files of many folders that it had not made just before and that are no caches, or overwrote files by a tool that is for that, or by any tool or script that deleted them then.",
		FalseAlarm: "Clean-up of old releases, of archives by age over many folders, and of source trees; a group that does so regularly.",
		Tuning:     "Add names of folders to harmless, or programs to programs, or raise files in the group.",
		Remedy:     "Freeze the container, see what is left and what backups have, and find how the process came in.",
	},
		pattern.Int("files", 200, "files within the while, by a tool or script"),
		pattern.Int("own_files", 2000, "files within the while, by other programs: an application looks after its own files"),
		pattern.Int("folders", 8, "folders that they are in"),
		pattern.Int("overwritten", 10, "files within the while that a tool for that overwrote, or that were overwritten and then deleted"),
		pattern.Duration("within", time.Minute, "that while"),
		pattern.List("tools", "programs that delete or overwrite for others", "rm", "find", "unlink", "rmdir", "xargs", "perl", "python", "ruby", "node", "php", "sh", "bash", "dash", "ash", "busybox", "rsync", "dd", "cp", "tee", "truncate"),
		pattern.List("wipers", "programs that overwrite", "shred", "srm", "wipe", "scrub", "sfill", "nwipe", "secure-delete"),
		pattern.List("programs", "programs that delete many files as their work", "dpkg", "apt", "apt-get", "rpm", "dnf", "microdnf", "yum", "apk", "pip", "npm", "yarn", "pnpm", "composer", "bundle", "cargo", "git", "make", "docker", "containerd", "buildkitd", "kaniko", "buildah", "podman", "logrotate", "tmpreaper", "tmpwatch", "systemd-tmpfiles", "restic", "borg"),
		pattern.List("harmless", "names of folders below which deletion is ordinary", "tmp", "temp", ".tmp", "cache", "caches", ".cache", "session", "sessions", ".git", "node_modules", "__pycache__", ".venv", "site-packages", "dist-packages", "log", "logs", "spool", "queue", "thumbnails", "thumbs", "proc", "sys", "dev", "run", "build", "dist", "target", "obj", "vendor", ".gradle", ".m2", ".npm", "lists", "apt", "man", "locale", "doc", "trash", ".Trash", "lost+found", "overlay2", "snapshots", "workspace"),
	)
}

type deletions struct {
	files, own, folders, overwritten int
	within                           time.Duration
	tools, wipers, programs          map[string]bool
	harmless                         map[string]bool
	made                             *keep.Map[made, event.Key] // with the process that made it
	written                          *keep.Map[made, struct{}]  // documents that a tool or script wrote over
	trees                            *keep.Map[pattern.Process, *work]
}

type made struct {
	workload pattern.Workload
	path     uint64
}

// work is what a tree did of late.
type work struct {
	deleted, folders, overwritten pattern.Spread
	trail                         pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &deletions{
		files: int(v.Int("files", 5, maxFiles)), own: int(v.Int("own_files", 5, maxFiles)), folders: int(v.Int("folders", 1, 1000)),
		overwritten: int(v.Int("overwritten", 1, maxFiles)), within: v.Duration("within", time.Hour), tools: v.Set("tools"), wipers: v.Set("wipers"),
		programs: v.Set("programs"), harmless: v.Set("harmless"), made: keep.New[made, event.Key](maxMade, keepMade), written: keep.New[made, struct{}](maxMade, keepMade),
	}
	d.trees = keep.New[pattern.Process, *work](maxTrees, 2*d.within)
	entries := []rule.Entry{pattern.On(d.create, event.KindFileCreate), pattern.On(d.remove, event.KindFileDelete)}
	if by := slices.Concat(v.List("wipers"), v.List("tools")); len(by) > 0 {
		overwrite := pattern.On(d.overwrite, event.KindFileWrite)
		overwrite.Programs = by
		entries = append(entries, overwrite)
	}
	return pattern.Detector(about, entries...), v.Err()
}

func key(e *event.Event) made { return made{pattern.WorkloadOf(e), pattern.HashText(e.File.Path)} }

func (d *deletions) create(s *rule.Subject) *rule.Match {
	if e := s.Event; e.File != nil && e.File.Error == "" && !pattern.AnyFolder(e.File.Path, d.harmless) {
		d.made.Put(key(e), e.Process.Key, e.Time)
	}
	return nil
}

func (d *deletions) of(s *rule.Subject) *work {
	k := pattern.Process{Agent: s.Event.AgentID, Key: s.Root().Key}
	at, ok := d.trees.Get(k, s.Event.Time)
	if !ok {
		at = d.trees.Put(k, &work{}, s.Event.Time)
	}
	(*at).trail.Add(s.Event)
	return *at
}

func (d *deletions) remove(s *rule.Subject) *rule.Match {
	e := s.Event
	if e.File == nil || e.File.Error != "" || e.File.Type != "" || d.programs[s.Process.Program] || pattern.AnyFolder(e.File.Path, d.harmless) {
		return nil
	}
	k := key(e)
	if d.written.Len() > 0 && d.tools[s.Process.Program] {
		if _, over := d.written.Get(k, e.Time); over {
			d.written.Delete(k)
			w := d.of(s)
			if n := w.overwritten.Add(k.path, e.Time, d.within, d.overwritten); n >= d.overwritten {
				return d.match(s, w, n, fmt.Sprintf("overwrote and deleted %d files within %s, the last was %s", n, d.within, e.File.Path))
			}
		}
	}
	if d.made.Len() > 0 {
		if _, own := d.made.Get(k, e.Time); own {
			d.made.Delete(k)
			return nil
		}
	}
	w := d.of(s)
	n := w.deleted.Add(k.path, e.Time, d.within, max(d.files, d.own))
	folders := w.folders.Add(pattern.HashText(pattern.Folder(e.File.Path)), e.Time, d.within, max(d.files, d.folders))
	least := d.own
	if d.tools[s.Process.Program] {
		least = d.files
	}
	if n < least || folders < d.folders {
		return nil
	}
	return d.match(s, w, n, fmt.Sprintf("deleted %d files of %d folders within %s, the last was %s", n, folders, d.within, e.File.Path))
}

func (d *deletions) overwrite(s *rule.Subject) *rule.Match {
	e := s.Event
	if e.File == nil || e.File.Error != "" || e.File.Type != "" {
		return nil
	}
	if !d.wipers[s.Process.Program] {
		// Who writes a document anew truncates it, and what a process made it may write to.
		if !pattern.Document(pattern.Extension(e.File.Path)) || len(e.File.Flags) == 0 || slices.Contains(e.File.Flags, "append") || slices.Contains(e.File.Flags, "truncate") {
			return nil
		}
		k := key(e)
		if by, ok := d.made.Get(k, e.Time); (!ok || *by != e.Process.Key) && !pattern.AnyFolder(e.File.Path, d.harmless) && !d.programs[s.Process.Program] {
			d.written.Put(k, struct{}{}, e.Time)
		}
		return nil
	}
	w := d.of(s)
	n := w.overwritten.Add(pattern.HashText(e.File.Path), e.Time, d.within, d.overwritten)
	if n < d.overwritten {
		return nil
	}
	return d.match(s, w, n, fmt.Sprintf("overwrote %d files within %s, the last was %s", n, d.within, e.File.Path))
}

func (d *deletions) match(s *rule.Subject, w *work, n int, what string) *rule.Match {
	m := rule.MatchOf(s, pattern.Who(s)+" "+what)
	m.Before, m.Count = w.trail.Before(s.Event), uint64(n)
	d.trees.Delete(pattern.Process{Agent: s.Event.AgentID, Key: s.Root().Key})
	return m
}
