package feeds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// stateFile is where a source's folder keeps what the publisher said of its
	// files. Without it everything is fetched anew.
	stateFile = ".state.json"
	// partSuffix marks files that are not yet complete.
	partSuffix = ".part"
	// maxState bounds it: half a million files come to 100 MB.
	maxState = 256 << 20
)

// state is what is known of the files of one source.
type state struct {
	Files map[string]fileState `json:"files,omitempty"`
	// Whole is when the last complete archive was fetched, and Cursor until when
	// changes since were followed, by the publisher's clock.
	Whole  time.Time `json:"whole,omitzero"`
	Cursor time.Time `json:"cursor,omitzero"`
	// Archive is the name of that archive, where it changes.
	Archive string `json:"archive,omitempty"`
}

// fileState is what the publisher said of one file.
type fileState struct {
	URL          string    `json:"url"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"last_modified,omitempty"`
	Size         int64     `json:"size"`
	Checked      time.Time `json:"checked"`
	// Mark is what an index said of it, for files that are only fetched when
	// that changes.
	Mark string `json:"mark,omitempty"`
}

// loadState reads a state. One that is not there is empty; one that is damaged is
// too, because it only saves work.
func loadState(name string) (*state, error) {
	s := &state{Files: map[string]fileState{}}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	data, err := readAll(f, maxState, nil)
	if err != nil {
		return nil, fmt.Errorf("read state %s: %w", name, err)
	}
	if json.Unmarshal(data, s) != nil || s.Files == nil {
		return &state{Files: map[string]fileState{}}, nil
	}
	return s, nil
}

func (s *state) save(name string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replace(name, data)
}

// replace writes a file as a whole or not at all.
func replace(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(filepath.Dir(name))
}

// syncFolder makes a renaming last.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
