package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/castellan-security/castellan/internal/threat"
)

// Detections keeps what people wrote about detection, and how rules fare.
type Detections interface {
	DetectionDocuments
	DetectionSilences
	DetectionStats
	DetectionMemories
}

// Limits of what is kept.
const (
	// MaxDetectionDocument bounds a document's text; each agent is sent all.
	MaxDetectionDocument = 256 << 10
	// MaxDetectionDocuments bounds the documents that hold at once, and
	// MaxDetectionNames those that were ever written: the history of what was removed
	// is kept.
	MaxDetectionDocuments = 100
	MaxDetectionNames     = 1_000
	// MaxDetectionVersions is how many versions of a document are kept; the oldest go
	// first.
	MaxDetectionVersions = 200
	// MaxDetectionSilences bounds those that hold at once: each threat is held against
	// them.
	MaxDetectionSilences = 1_000
)

// DetectionDocument is a version of a document of rules.
type DetectionDocument struct {
	Name    string    `json:"name"`
	Version int64     `json:"version"` // of that name, from 1
	Text    string    `json:"text,omitempty"`
	Removed bool      `json:"removed,omitempty"` // with this version it holds no more
	Actor   string    `json:"actor"`
	Comment string    `json:"comment,omitempty"`
	Created time.Time `json:"created"`
}

// DetectionDocuments keeps documents of rules with their history.
type DetectionDocuments interface {
	// PutDetectionDocument makes d the newest version of its name, if the newest is
	// after, 0 for none: else Conflict. Exhausted when there are too many.
	PutDetectionDocument(ctx context.Context, d DetectionDocument, after int64) (DetectionDocument, error)
	// DetectionDocuments returns the newest version of each that is not removed, with
	// its text, by name.
	DetectionDocuments(ctx context.Context) ([]DetectionDocument, error)
	// DetectionDocument returns one version, the newest with 0, which may say that it is
	// removed; NotFound if there is none.
	DetectionDocument(ctx context.Context, name string, version int64) (DetectionDocument, error)
	// DetectionVersions returns versions without their texts, the newest first, below
	// before unless it is 0.
	DetectionVersions(ctx context.Context, name string, before int64, limit int) ([]DetectionDocument, error)
}

// DetectionSilence is a silence that somebody set beside documents.
type DetectionSilence struct {
	ID int64 `json:"id"`
	threat.Silence
	Created time.Time `json:"created"`
	Ended   time.Time `json:"ended,omitzero"` // when somebody took it back
	EndedBy string    `json:"ended_by,omitempty"`
}

// Holds reports whether the silence counts at a time.
func (s *DetectionSilence) Holds(now time.Time) bool { return s.Ended.IsZero() && now.Before(s.Until) }

// DetectionSilences keeps silences.
type DetectionSilences interface {
	// PutDetectionSilence creates one, whatever its ID says. Exhausted when
	// MaxDetectionSilences hold at the time of its creation.
	PutDetectionSilence(ctx context.Context, s DetectionSilence) (DetectionSilence, error)
	// EndDetectionSilence ends one: NotFound when there is none, Conflict when it is
	// over already.
	EndDetectionSilence(ctx context.Context, id int64, by string, now time.Time) (DetectionSilence, error)
	// DetectionSilences returns those that hold at a time, or with the zero time all that
	// are kept, the newest first.
	DetectionSilences(ctx context.Context, at time.Time) ([]DetectionSilence, error)
}

// DetectionStats keeps how rules fare.
type DetectionStats interface {
	// PutDetectionStats stores how rules fare on an agent's host since a start of the
	// agent; what was told of it before is part of that.
	PutDetectionStats(ctx context.Context, agentID, boot string, stats []threat.RuleStats) error
	// DetectionStats returns how these rules fare on all hosts together, without those of
	// which nothing is known. The error of a rule is not among it.
	DetectionStats(ctx context.Context, rules []string) ([]threat.RuleStats, error)
}

// DetectionMemories keeps what rules that look at calls of AWS learned.
type DetectionMemories interface {
	// PutDetectionMemories stores what rules learned, by their ids, in the place of what
	// those had; that of others stays.
	PutDetectionMemories(ctx context.Context, memories map[string]json.RawMessage) error
	// DetectionMemories returns what all rules learned.
	DetectionMemories(ctx context.Context) (map[string]json.RawMessage, error)
}
