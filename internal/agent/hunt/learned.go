package hunt

import (
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/castellan-security/castellan/internal/whole"
)

const (
	learnedFile = "learned.json"
	// maxLearned bounds what rules learned, as it is on disk: the built-in ones have less
	// than a megabyte on a host of 100 containers.
	maxLearned = 32 << 20
	// rememberEvery is how many times of dueEvery pass until what rules learned is written
	// down: so much is lost when the agent is killed.
	rememberEvery = 300
)

// recall has the engine's rules take up what they learned before the agent ended. What
// can't be read is learned anew, and told.
func (h *Hunter) recall() {
	var memories map[string]json.RawMessage
	err := readJSON(h.o.Dir, learnedFile, maxLearned, &memories)
	if err == nil {
		err = h.now.engine.Remember(memories)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.o.Log.Error("rules of detection learn anew what is usual", "error", err)
	}
}

// remember writes down what rules learned.
func (h *Hunter) remember() {
	file := path(h.o.Dir, learnedFile)
	if file == "" {
		return
	}
	memories, err := h.now.engine.Memories()
	b, encodeErr := json.Marshal(memories)
	switch {
	case encodeErr != nil:
		err = errors.Join(err, encodeErr)
	case len(b) > maxLearned:
		err = errors.Join(err, tooLarge(learnedFile, maxLearned))
	default:
		err = errors.Join(err, whole.WriteSoon(file, b))
	}
	if err != nil {
		h.o.Log.Error("what rules of detection learned is not kept, and would be lost when the agent ends", "error", err)
	}
}
