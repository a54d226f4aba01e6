package detect

import "github.com/castellan-security/castellan/internal/detect/falco"

// MaxFalco bounds a rules file of Falco in bytes.
const MaxFalco = falco.MaxFile

// Imported is what became of one rule of somebody else's.
type Imported = falco.Outcome

// FromFalco makes a document of the rules of a file of Falco, empty when none can be
// taken, and says what became of each: see package falco.
func FromFalco(b []byte) (document []byte, outcomes []Imported, err error) { return falco.Convert(b) }
