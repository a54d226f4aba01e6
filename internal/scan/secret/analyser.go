package secret

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/castellan-security/castellan/internal/scan/analyse"
)

// Analyser looks for secrets in the files of layers and folders.
type Analyser struct{ Engine *Engine }

const (
	// leastFile is the size of the smallest file in which a secret may stand.
	leastFile = 8
	// maxFile is how much of one file is looked at: of longer ones, which are
	// data, the beginning.
	maxFile = 256 << 20
)

// Name is analyse.Analyser.
func (Analyser) Name() string { return "secrets" }

// Version tells results of other rules and other salts apart. It says nothing of
// the salt.
func (a Analyser) Version() string { return a.Engine.print("version", preparedOf) + ownVersion }

// ownVersion is raised whenever our own rules find otherwise.
const ownVersion = "-4"

// Wants is analyse.Analyser: every regular file but those whose content is
// compressed or a picture.
func (Analyser) Wants(e *analyse.Entry, head []byte) bool {
	if !e.Mode.IsRegular() || e.HardLink || e.Size < leastFile || len(head) < leastFile {
		return false
	}
	return !isPacked(head) && !pictures[strings.ToLower(path.Ext(e.Path))]
}

// Take is analyse.Analyser.
func (a Analyser) Take(ctx context.Context, e *analyse.Entry, r io.Reader, shown *analyse.Shown) error {
	found, err := a.Engine.Find(ctx, File{Path: e.Path}, io.LimitReader(r, maxFile))
	if err == nil || errors.Is(err, ErrMany) {
		shown.Secrets = found
	}
	return err
}

// pictures are kinds of file that hold no text, and of which an image may have
// many.
var pictures = map[string]bool{".png": true, ".jpg": true, ".jpeg": true, ".gif": true, ".webp": true, ".ico": true, ".bmp": true, ".tif": true, ".tiff": true,
	".ttf": true, ".otf": true, ".woff": true, ".woff2": true, ".eot": true, ".mp3": true, ".mp4": true, ".ogg": true, ".webm": true, ".wav": true, ".avi": true, ".mo": true,
	".pyc": true, ".pf2": true, ".hyb": true}

// packed are how compressed files and archives begin: what is in them cannot be
// seen from outside.
var packed = [][]byte{[]byte("\x1f\x8b"), []byte("BZh"), []byte("\xfd7zXZ\x00"), []byte("\x28\xb5\x2f\xfd"), []byte("PK\x03\x04"), []byte("7z\xbc\xaf\x27\x1c"),
	[]byte("\x04\x22\x4d\x18"), []byte("!<arch>\ndebian"), []byte("\x89PNG"), []byte("\xff\xd8\xff"), []byte("GIF8"), []byte("\xde\x12\x04\x95"), []byte("\x95\x04\x12\xde")}

func isPacked(head []byte) bool {
	for _, p := range packed {
		if bytes.HasPrefix(head, p) {
			return true
		}
	}
	return false
}

// maxText bounds one variable, label or step.
const maxText = 256 << 10

// SaltID names a salt without telling it: two prints can be compared if they have
// one.
func (e *Engine) SaltID() string { return e.print("salt")[:16] }
