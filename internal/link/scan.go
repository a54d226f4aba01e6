package link

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
)

// AbilityScan is what an agent says of itself when it scans images of its
// engine for the server (DirectiveScan).
const AbilityScan = "scan"

// AbilityAnalysis stands before the version of the analysis by which an agent
// scans, as in "analysis-3"; an agent that does not say it is not asked for what
// is scanned already.
const AbilityAnalysis = "analysis-"

// MaxInventory bounds a compressed inventory: those of the largest images are a
// tenth of it.
const MaxInventory = 16 << 20

// MaxScanText bounds each text of an answer in bytes: who answers cuts them.
const MaxScanText = 4 << 10

// ScanWish is the body of DirectiveScan: an image of the agent's engine is to be
// scanned and answered by Server.Inventory.
type ScanWish struct {
	Job     string `json:"job"`      // to be repeated in the answer
	ImageID string `json:"image_id"` // the engine's, sha256:…
	// Reference is a name of the image, for people.
	Reference string    `json:"reference,omitempty"`
	Until     time.Time `json:"until"` // by the server's clock; later answers are refused
	// Salt is that of the installation's fingerprints of secrets. A server of before
	// there was one sends none, and secrets are then not looked for.
	Salt Salt `json:"salt,omitempty"`
}

// LogValue leaves out what a log must not have: as JSON the salt is readable.
func (w ScanWish) LogValue() slog.Value {
	return slog.GroupValue(slog.String("job", w.Job), slog.String("image_id", w.ImageID), slog.String("reference", w.Reference))
}

// Salt is what fingerprints of secrets are made with. Who has it can try whether a
// fingerprint is that of a value that they guess, so it shows itself to nobody:
// printed and logged it is a word.
type Salt []byte

// String hides it.
func (s Salt) String() string {
	if len(s) == 0 {
		return "no salt"
	}
	return "hidden salt"
}

// GoString hides it.
func (s Salt) GoString() string { return s.String() }

// LogValue hides it.
func (s Salt) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Format hides it from every verb.
func (s Salt) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// Scanned answers a ScanWish.
type Scanned struct {
	AgentID string // across machines the certificate says it, whatever stands here
	Job     string
	ImageID string
	// Inventory is inventory.Inventory as JSON, compressed with zstd; empty when
	// the scan failed.
	Inventory []byte
	// Error says why, Remedy what helps; Final says that another try, here or
	// elsewhere, would end the same.
	Error  string
	Remedy string
	Final  bool
	// Missing says that the agent's engine has no such image (any more).
	Missing bool
}

// Check holds the limits of an answer: Invalid when s is larger, or neither an
// inventory nor an error.
func (s Scanned) Check() error {
	switch {
	case len(s.Inventory) > MaxInventory:
		return fault.New(fault.Invalid, "inventory has %d bytes; at most %d are taken", len(s.Inventory), MaxInventory)
	case max(len(s.Job), len(s.ImageID), len(s.Error), len(s.Remedy)) > MaxScanText:
		return fault.New(fault.Invalid, "answer to a scan has a text of more than %d bytes", MaxScanText)
	case s.Job == "" || s.ImageID == "":
		return fault.New(fault.Invalid, "answer to a scan names no job or no image")
	case (len(s.Inventory) == 0) == (s.Error == ""):
		return fault.New(fault.Invalid, "answer to a scan has neither an inventory nor an error, or both")
	}
	return nil
}
