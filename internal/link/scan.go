package link

import "time"

// AbilityScan is what an agent says of itself when it scans images of its
// engine for the server (DirectiveScan).
const AbilityScan = "scan"

// MaxInventory bounds a compressed inventory: those of the largest images are a
// tenth of it.
const MaxInventory = 16 << 20

// ScanWish is the body of DirectiveScan: an image of the agent's engine is to be
// scanned and answered by Server.Inventory.
type ScanWish struct {
	Job     string `json:"job"`      // to be repeated in the answer
	ImageID string `json:"image_id"` // the engine's, sha256:…
	// Reference is a name of the image, for people.
	Reference string    `json:"reference,omitempty"`
	Until     time.Time `json:"until"` // by the server's clock; later answers are refused
}

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
}
