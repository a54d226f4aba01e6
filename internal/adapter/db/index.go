package db

import (
	"context"

	"github.com/castellan-security/castellan/internal/event"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	// maxBlockWords bounds the new terms that one block may bring into the
	// dictionary by its words, so that a flood of random arguments cannot swell
	// it: one for two events at the worst, where ordinary ones bring none.
	maxBlockWords = 128
	// maxBlockTerms bounds the terms posted for one block, of which ordinary ones
	// have 150 to 250: a flood of paths or addresses is made of words that are
	// all known, and each posting is a write to a page of its own.
	maxBlockTerms = 320
	// maxWords bounds the words of all blocks together: some 100 MiB. A flood
	// of random paths reaches it within two million events; new words then have
	// to wait until retention has removed old ones, and blocks with such are
	// candidates for every search.
	maxWords = 1_000_000
	// maxWordBytes is how much of one event's text is indexed.
	maxWordBytes = 4 << 10
)

// eventTerms are the terms of an event's own columns.
type eventTerms struct{ agent, workload, group, kind, executable, origin int64 }

func (in *ingest) terms(ctx context.Context, e *event.Event) (t eventTerms, err error) {
	for _, f := range [...]struct {
		dest  *int64
		dim   dimension
		value string
	}{
		{&t.agent, dimAgent, e.AgentID},
		{&t.workload, dimWorkload, e.WorkloadID},
		{&t.group, dimGroup, e.Group},
		{&t.kind, dimKind, string(e.Kind)},
		{&t.executable, dimExecutable, e.Process.Executable},
	} {
		if *f.dest, err = in.post(ctx, f.dim, f.value); err != nil {
			return t, err
		}
	}
	if e.Exec == nil {
		return t, nil
	}
	if e.Exec.Entered {
		if _, err := in.post(ctx, dimFlag, flagEntered); err != nil {
			return t, err
		}
	}
	t.origin, err = in.post(ctx, dimOrigin, string(e.Exec.Origin))
	return t, err
}

// post says that a term occurs in the newest block.
func (in *ingest) post(ctx context.Context, dim dimension, value string) (int64, error) {
	id, err := in.w.term(ctx, dim, value)
	if err != nil {
		return 0, err
	}
	in.postID(id)
	return id, nil
}

// postID posts once a block.
func (in *ingest) postID(id int64) {
	s := &in.w.state
	if _, ok := s.posted[id]; !ok {
		s.posted[id] = struct{}{}
		in.postings = append(in.postings, posting{id, s.block})
	}
}

// index posts the words of an event's texts.
func (in *ingest) index(ctx context.Context, e *event.Event) error {
	left := maxWordBytes
	if err := in.indexText(ctx, e.Process.Executable, &left); err != nil {
		return err
	}
	if err := in.indexText(ctx, e.Process.Name, &left); err != nil {
		return err
	}
	if e.Exec != nil {
		for _, a := range e.Exec.Args {
			if err := in.indexText(ctx, a, &left); err != nil {
				return err
			}
		}
	}
	if !hasObjects(e) {
		return nil
	}
	for text := range store.Objects(e) {
		if err := in.indexText(ctx, text, &left); err != nil {
			return err
		}
	}
	return in.indexObjects(ctx, e)
}

// hasObjects spares what happens most, processes, the way through iterators.
func hasObjects(e *event.Event) bool {
	return e.File != nil || e.Connection != nil || e.DNS != nil || e.Privilege != nil || e.Memory != nil
}

// indexObjects marks the buckets of paths, their folders, and peers.
func (in *ingest) indexObjects(ctx context.Context, e *event.Event) error {
	path, peer := false, false
	for text := range store.Paths(e) {
		path = true
		in.mark(bucketOf(bucketPath, text))
		eachFolder(text, func(folder string) { in.mark(bucketOf(bucketPath, folder)) })
	}
	for text := range store.Peers(e) {
		peer = true
		in.mark(bucketOf(bucketPeer, text))
	}
	for _, f := range [...]struct {
		on   bool
		flag string
	}{{path, flagPath}, {peer, flagPeer}} {
		if !f.on {
			continue
		}
		if _, err := in.post(ctx, dimFlag, f.flag); err != nil {
			return err
		}
	}
	return nil
}

// indexText posts the words of one text, unless the block has seen it: most
// events repeat the texts of their neighbours.
func (in *ingest) indexText(ctx context.Context, text string, left *int) error {
	s := &in.w.state
	if _, ok := s.texts[text]; ok || text == "" {
		return nil
	}
	if len(text) > *left || s.fresh > maxBlockWords || len(s.posted) > maxBlockTerms {
		_, err := in.post(ctx, dimFlag, flagWordy)
		return err
	}
	*left -= len(text)
	s.texts[text] = struct{}{}
	var failed error
	eachStem(text, in.stem, func(stem []byte) {
		if failed == nil {
			failed = in.indexWord(ctx, string(stem))
		}
	})
	return failed
}

// indexWord posts a word, making it if there is room in the dictionary.
func (in *ingest) indexWord(ctx context.Context, word string) error {
	s := &in.w.state
	if s.words >= in.w.maxWords {
		id, err := in.w.known(ctx, dimWord, word)
		if err != nil {
			return err
		}
		if id == 0 {
			s.fresh = maxBlockWords + 1
			_, err := in.post(ctx, dimFlag, flagWordy)
			return err
		}
		in.postID(id)
		return nil
	}
	before := s.nextTerm
	if _, err := in.post(ctx, dimWord, word); err != nil {
		return err
	}
	if s.nextTerm != before {
		s.words++
		s.fresh++
	}
	return nil
}
