package agent

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/whole"
)

// idFile holds the agent's id in its data folder.
const idFile = "agent-id"

// wellFormed is what rand.Text makes: base32, at least 26 characters.
var wellFormed = regexp.MustCompile(`^[A-Z2-7]{26,64}$`)

// Identity returns the id of the agent whose data folder this is. The first
// call makes it; it stays the same for as long as the folder does. A damaged
// id is an error of kind Corrupt, never silently a new agent.
func Identity(dir string) (string, error) {
	path := filepath.Join(dir, idFile)
	b, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(b))
		if !wellFormed.MatchString(id) {
			return "", fault.New(fault.Corrupt, "read agent id from %s: not an id", path).
				With("remove the file to let the agent make a new id; the server will list it as another agent")
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read agent id: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	id := rand.Text()
	if err := whole.Write(path, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("keep agent id: %w", err)
	}
	return id, nil
}
