// Package encryption finds who encrypts files that are not his, for ransom.
//
// What is in a file is not seen. What shows is that files get another extension, one
// by one and all the same, that their originals go, that they are opened for writing in
// place over many folders, and that a note is left.
package encryption

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/detect/keep"
	"github.com/castellan-security/castellan/internal/detect/pattern"
	"github.com/castellan-security/castellan/internal/detect/rule"
	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/threat"
)

const (
	maxTrees = 512
	maxFiles = 8192 // of a tree
	maxKinds = 8    // extensions of one tree that are counted apart
	// Files in place: so many types of documents as no program of one purpose opens.
	leastTypes = 4
	// With a note, fewer files are enough.
	noted = 5
	// Files of one folder alone: a spool, or a folder of uploads.
	oneFolder = 4 // times as many
)

// About is what people are told of the rule.
func About() *threat.Rule {
	return pattern.Rule(threat.Rule{
		ID: "ransom-encryption", Theme: "ransom", Title: "Many files are being encrypted", Severity: finding.Critical,
		Tactic: threat.Impact, Techniques: []string{"T1486"}, Kinds: []event.Kind{event.KindFileCreate, event.KindFileWrite, event.KindFileRename, event.KindFileDelete},
		Meaning:    "A process tree gave many documents one new extension, or wrote such copies and removed the originals, or opened documents of many types for writing in place, or left the same note in several folders.",
		FalseAlarm: "Jobs that mark files as done by an extension of their own, and those that encrypt backups file by file.",
		Tuning:     "Add the extension to harmless, or silence the rule in groups of such jobs.",
		Remedy:     "Freeze the container at once, do not end it: the key may be in its memory. Keep volumes from others, and look at backups.",
	},
		pattern.Int("files", 30, "files within the while, in several folders; of one folder four times as many"),
		pattern.Int("folders", 3, "what several folders are"),
		pattern.Int("in_place", 60, "documents of four types at least that were opened for writing in place within the while"),
		pattern.Duration("within", time.Minute, "that while"),
		pattern.List("notes", "parts of names of notes", "decrypt", "ransom", "recover_files", "recover-files", "recover your", "recover_your", "restore_files", "restore-files", "restore_your", "how_to_recover", "how_to_restore", "how_to_back", "how to restore", "how to recover", "your_files", "your files", "files_encrypted", "_readme.txt", "!readme", "!!!", "readme_for", "unlock_files", "recovery_instruction", "recovery_key"),
		pattern.List("harmless", "extensions that ordinary programs add", "gz", "bz2", "xz", "zst", "lz4", "br", "zip", "tar", "tgz", "bak", "old", "orig", "save", "tmp", "temp", "part", "partial", "crdownload", "download", "swp", "swo", "new", "log", "lock", "pid", "done", "ready", "ok", "processed", "processing", "imported", "failed", "error", "err", "rej", "deleted", "archived", "uploaded", "sent", "sig", "asc", "sha256", "sha1", "md5", "map", "meta", "json", "xml", "txt", "html", "webp", "avif", "jpg", "png", "thumb", "min", "dpkg-old", "dpkg-new", "dpkg-dist", "dpkg-tmp", "rpmnew", "rpmsave", "rpmorig", "apk-new", "pyc", "class", "o", "d", "idx", "sum", "torrent", "filepart", "cache", "etag", "headers"),
	)
}

type encryptions struct {
	files, folders, inPlace int
	most                    int // files of a tree that are remembered: no more are needed
	within                  time.Duration
	notes                   []string
	harmless                map[string]bool
	trees                   *keep.Map[pattern.Process, *work]
}

// work is what a tree did to files of late.
type work struct {
	changed, folders pattern.Spread // documents with a new extension, and where they are
	copies           pattern.Spread // originals of which there is a copy with a new extension
	extensions       map[string]int
	most             string // the most frequent of these
	inPlace, places  pattern.Spread
	types            pattern.Spread
	notes, note      pattern.Spread // folders with a note; names of notes
	trail            pattern.Trail
}

// New makes the detector.
func New(about *threat.Rule) (rule.Detector, error) {
	v := pattern.ValuesOf(about)
	d := &encryptions{
		files: int(v.Int("files", 5, maxFiles/oneFolder)), folders: int(v.Int("folders", 1, 100)), inPlace: int(v.Int("in_place", 5, maxFiles)),
		within: v.Duration("within", time.Hour), notes: v.List("notes"), harmless: v.Set("harmless"),
	}
	d.most = max(d.files*oneFolder, d.inPlace, d.folders)
	d.trees = keep.New[pattern.Process, *work](maxTrees, 2*d.within)
	return pattern.Detector(about, pattern.On(d.create, event.KindFileCreate), pattern.On(d.rename, event.KindFileRename),
		pattern.On(d.remove, event.KindFileDelete), pattern.On(d.write, event.KindFileWrite)), v.Err()
}

// of returns what the subject's tree did.
func (d *encryptions) of(s *rule.Subject, begin bool) *work {
	k := pattern.Process{Agent: s.Event.AgentID, Key: s.Root().Key}
	at, ok := d.trees.Get(k, s.Event.Time)
	if !ok {
		if !begin {
			return nil
		}
		at = d.trees.Put(k, &work{extensions: map[string]int{}}, s.Event.Time)
	}
	return *at
}

func done(e *event.Event) bool { return e.File != nil && e.File.Error == "" && e.File.Type == "" }

// strange says that an extension is neither that of a document nor one that ordinary
// programs add, with numbers and dates behind it or without.
func (d *encryptions) strange(extension string) bool {
	bare := strings.TrimRight(extension, "0123456789-_~")
	return bare != "" && !d.harmless[extension] && !d.harmless[bare] && !pattern.Document(extension) && !strings.HasPrefix(extension, "tmp")
}

func (d *encryptions) rename(s *rule.Subject) *rule.Match {
	e := s.Event
	if !done(e) {
		return nil
	}
	extension := pattern.Extension(e.File.To)
	if !pattern.Document(pattern.Extension(e.File.Path)) || !d.strange(extension) {
		return nil
	}
	return d.changed(s, d.of(s, true), e.File.Path, extension)
}

func (d *encryptions) create(s *rule.Subject) *rule.Match {
	e := s.Event
	if !done(e) {
		return nil
	}
	p := e.File.Path
	if d.isNote(p) {
		return d.noted(s)
	}
	extension := pattern.Extension(p)
	if !d.strange(extension) {
		return nil
	}
	original := p[:len(p)-len(extension)-1]
	if !pattern.Document(pattern.Extension(original)) {
		return nil
	}
	w := d.of(s, true)
	w.copies.Add(pattern.HashText(original), e.Time, d.within, d.most)
	w.count(extension)
	w.trail.Add(e)
	return nil
}

func (d *encryptions) remove(s *rule.Subject) *rule.Match {
	e := s.Event
	if !done(e) || d.trees.Len() == 0 || !pattern.Document(pattern.Extension(e.File.Path)) {
		return nil
	}
	w := d.of(s, false)
	if w == nil || !w.copies.Has(pattern.HashText(e.File.Path)) {
		return nil
	}
	return d.changed(s, w, e.File.Path, "")
}

// count counts an extension.
func (w *work) count(extension string) {
	if _, known := w.extensions[extension]; known || len(w.extensions) < maxKinds {
		w.extensions[extension]++
		if w.extensions[extension] > w.extensions[w.most] {
			w.most = extension
		}
	}
}

// changed notes that a document became one with another extension, and says whether
// they are many.
func (d *encryptions) changed(s *rule.Subject, w *work, original, extension string) *rule.Match {
	e := s.Event
	w.trail.Add(e)
	if extension != "" {
		w.count(extension)
	}
	n := w.changed.Add(pattern.HashText(original), e.Time, d.within, d.most)
	folders := w.folders.Add(pattern.HashText(pattern.Folder(original)), e.Time, d.within, d.most)
	if n == 1 {
		return nil
	}
	// All get the same extension, or each one of its own, as made by chance.
	if kinds := len(w.extensions); w.extensions[w.most]*2 < n && kinds < maxKinds {
		return nil
	}
	if n < d.files && !(n >= noted && w.notes.Len() > 0) || folders < d.folders && n < d.files*oneFolder {
		return nil
	}
	return d.match(s, w, n, fmt.Sprintf("gave %d documents in %d folders the extension .%s", n, folders, w.most))
}

func (d *encryptions) write(s *rule.Subject) *rule.Match {
	e := s.Event
	if !done(e) {
		return nil
	}
	extension := pattern.Extension(e.File.Path)
	// Who writes a file anew truncates it; who encrypts in place does not.
	if !pattern.Document(extension) || extension == "log" || len(e.File.Flags) == 0 || slices.Contains(e.File.Flags, "truncate") || slices.Contains(e.File.Flags, "append") {
		return nil
	}
	w := d.of(s, true)
	n := w.inPlace.Add(pattern.HashText(e.File.Path), e.Time, d.within, d.most)
	places := w.places.Add(pattern.HashText(pattern.Folder(e.File.Path)), e.Time, d.within, d.most)
	types := w.types.Add(pattern.HashText(extension), e.Time, d.within, d.most)
	w.trail.Add(e)
	if n < d.inPlace && !(n >= noted && w.notes.Len() > 0) || types < leastTypes || places < d.folders {
		return nil
	}
	return d.match(s, w, n, fmt.Sprintf("opened %d documents of %d types in %d folders for writing in place", n, types, places))
}

// isNote says that a file is called like the note that one leaves.
func (d *encryptions) isNote(p string) bool {
	switch pattern.Extension(p) {
	case "txt", "html", "htm", "hta", "":
	default:
		return false
	}
	name := strings.ToLower(pattern.Name(p))
	return slices.ContainsFunc(d.notes, func(part string) bool { return strings.Contains(name, part) })
}

func (d *encryptions) noted(s *rule.Subject) *rule.Match {
	e := s.Event
	w := d.of(s, true)
	w.trail.Add(e)
	n := w.notes.Add(pattern.HashText(pattern.Folder(e.File.Path)), e.Time, d.within, d.most)
	names := w.note.Add(pattern.HashText(pattern.Name(e.File.Path)), e.Time, d.within, d.most)
	switch files := w.changed.Len(); {
	case n >= d.folders && names <= 2:
		return d.match(s, w, n, fmt.Sprintf("left %s in %d folders", pattern.Name(e.File.Path), n))
	case files >= noted:
		return d.match(s, w, files, fmt.Sprintf("gave %d documents the extension .%s and left %s", files, w.most, pattern.Name(e.File.Path)))
	}
	return nil
}

func (d *encryptions) match(s *rule.Subject, w *work, n int, what string) *rule.Match {
	m := rule.MatchOf(s, pattern.Who(s)+" "+what)
	m.Before, m.Count = w.trail.Before(s.Event), uint64(n)
	d.trees.Delete(pattern.Process{Agent: s.Event.AgentID, Key: s.Root().Key})
	return m
}
