package link

import (
	"encoding/json"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/threat"
	"github.com/castellan-security/castellan/proto/linkv1"
)

// Limits of the threats of one report.
const (
	// MaxThreats bounds the threats of one report: rules tell what is alike once a
	// minute, so there are few.
	MaxThreats = 100
	// MaxThreat bounds one threat on the wire: with all its lists and texts full it
	// has some 150 KiB.
	MaxThreat = 256 << 10
	// maxThreatValues bounds the values of all threats of a report, each of which can
	// become two hundred bytes in memory.
	maxThreatValues = 200_000
)

// NumberedThreat is a threat with its number among those of its series, from 1.
type NumberedThreat struct {
	Number uint64
	threat.Threat
}

func threatsToWire(threats []NumberedThreat) ([]*linkv1.Threat, error) {
	if len(threats) == 0 {
		return nil, nil
	}
	out := make([]*linkv1.Threat, len(threats))
	for i := range threats {
		b, err := writeJSON("threat", &threats[i].Threat)
		if err != nil {
			return nil, err
		}
		out[i] = &linkv1.Threat{Number: threats[i].Number, ThreatJson: b}
	}
	return out, nil
}

func threatsFromWire(threats []*linkv1.Threat) ([]NumberedThreat, error) {
	if len(threats) == 0 {
		return nil, nil
	}
	out := make([]NumberedThreat, len(threats))
	values := 0
	for i, w := range threats {
		b := w.GetThreatJson()
		if len(b) > MaxThreat {
			return nil, fault.New(fault.Invalid, "threat %d has %d bytes; at most %d are taken", i, len(b), MaxThreat)
		}
		if values += countValues(b); values > maxThreatValues {
			return nil, fault.New(fault.Invalid, "threats have more than %d values", maxThreatValues)
		}
		if err := json.Unmarshal(b, &out[i].Threat); err != nil {
			return nil, fault.New(fault.Invalid, "read threat %d: %w", i, err)
		}
		out[i].Number = w.GetNumber()
	}
	return out, nil
}

// countValues counts the values of JSON before it is read: what stands in texts is
// none.
func countValues(b []byte) (n int) {
	text := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case !text && (c == ',' || c == '{' || c == '['):
			n++
		}
	}
	return n
}
