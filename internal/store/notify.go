package store

import (
	"context"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

// Notify keeps who is told of what happens, and what they are to be told still.
type Notify interface {
	NotifyTargets
	NewsQueue
	NoticeQueue
	Notifications
	DeadLetters
}

// NotifyTargets keeps who is told.
type NotifyTargets interface {
	// PutNotifyTarget creates one. Conflict when the name is taken, Exhausted when
	// there are MaxNotifyTargets.
	PutNotifyTarget(ctx context.Context, t notice.Target) (notice.Target, error)
	// UpdateNotifyTarget replaces the one with its ID, but for its state. NotFound
	// when there is none, Conflict when another has its name.
	UpdateNotifyTarget(ctx context.Context, t notice.Target) error
	// NotifyTargets returns all with their states, by name.
	NotifyTargets(ctx context.Context) ([]notice.Target, error)
	// DeleteNotifyTarget removes one with all that it was to be told.
	DeleteNotifyTarget(ctx context.Context, id int64) error
}

// Limits of what is kept.
const (
	// MaxNotifyTargets bounds targets: each thing that happens is held against
	// each.
	MaxNotifyTargets = 100
	// MaxNews bounds the findings of one ImageNews, those first that deserve
	// attention most.
	MaxNews = 1_000
	// MaxNotices bounds what waits for one target, which may not be there for
	// days: some 20 MiB. Beyond it, what is least grave is lost, and counted.
	MaxNotices = 5_000
	// MaxHeard is how many ids of notices are remembered, so that none is told
	// twice: those of the busiest month, some 10 MiB.
	MaxHeard = 100_000
	// MaxDeadOf bounds the dead letters of one target, MaxDead those of all: some
	// 5 KiB each, and 300 KiB the largest. Beyond it the oldest are lost, and counted.
	MaxDeadOf = 50
	MaxDead   = 500
)

// ImageNews is what a comparison of an image brought (Findings.PutFindings).
type ImageNews struct {
	ID      int64
	ImageID string
	Time    time.Time
	// First says that the image had not been compared before: all that it has
	// are news.
	First bool
	// Findings are those that nobody has accepted, at most MaxNews of Total.
	Findings []FindingNews
	Total    int
}

// FindingNews is a finding with why it is news.
type FindingNews struct {
	ImageVulnerability
	Reason notice.Reason
}

// NewsQueue keeps news until somebody has decided who is told.
type NewsQueue interface {
	// News returns the oldest. Findings that are gone meanwhile are left out, and
	// so are images.
	News(ctx context.Context, limit int) ([]ImageNews, error)
	// Told returns, by fingerprint, the highest level (notice.Finding.Level) at
	// which a target was told of findings of an image.
	Told(ctx context.Context, target int64, imageID string) (map[string]int, error)
	// TakeNews removes the news up to that ID, and puts into the queues what
	// targets are to be told: both or nothing. Targets that are gone are left out.
	TakeNews(ctx context.Context, through int64, told []Telling) error
	// PutNotices puts into the queues what targets are to be told of one thing that
	// happened, and notes its id: both or nothing. It reports whether it did: an id
	// that is among the last MaxHeard is not told again. Without an id it is told
	// whatever was told before.
	PutNotices(ctx context.Context, id string, told []Telling) (fresh bool, err error)
}

// Telling is a notice for a target.
type Telling struct {
	Target  int64
	ImageID string
	Notice  notice.Notice
	// Levels are those of what is told, by fingerprint: also of findings that
	// found no room in the notice.
	Levels map[string]int
	// Fold has the notice stand for those of the same Subject that wait still, as
	// notice.Notice.Fold says, in their stead.
	Fold bool
}

// NoticeQueue keeps notices until they are made into a notification.
type NoticeQueue interface {
	// Queues returns what waits, one for each target for which something does.
	Queues(ctx context.Context) ([]NoticeLine, error)
	// Notices returns the gravest that wait for a target, the oldest of them
	// first, and the number of the newest that waits.
	Notices(ctx context.Context, target int64, limit int) (ns []notice.Notice, newest int64, err error)
	// PutNotification stores a notification that is to be delivered, and removes
	// the notices up to that number from the target's queue: both or nothing.
	PutNotification(ctx context.Context, d Delivery, through int64) error
}

// NoticeLine says how many notices wait for a target, and since when.
type NoticeLine struct {
	Target         int64
	Notices        int
	Oldest, Newest time.Time
	// Urgency is the severity of the gravest that tells of something that happens
	// (notice.Kind.Happens); Unknown where none does.
	Urgency finding.Severity
}

// Delivery is a notification on its way.
type Delivery struct {
	ID      string // of the notification
	Target  int64
	Notices int // in it, those that were left out too
	Created time.Time
	Body    []byte // notice.Notification as JSON
	Tries   int
	Next    time.Time
}

// Notifications keeps what is to be delivered, and how it went.
type Notifications interface {
	// Deliveries returns all that are neither delivered nor given up.
	Deliveries(ctx context.Context) ([]Delivery, error)
	// EndNotifyTry notes how a try ended, of a delivery or of a test. After a test
	// that got through, what is to be delivered is due.
	EndNotifyTry(ctx context.Context, t NotifyTry) error
}

// NotifyTry is a try to reach a target.
type NotifyTry struct {
	Target int64
	ID     string // of the delivery; empty for a test
	At     time.Time
	// Error is why it did not get through, Remedy what helps; empty: it did.
	Error, Remedy string
	// Delivered says that it got through in spite of the error: not to everybody.
	Delivered bool
	// Next is when it is tried again; zero after an error: it is given up, and a
	// dead letter.
	Next time.Time
}

// DeadLetters keeps notifications that were given up, until somebody decides what
// becomes of them.
type DeadLetters interface {
	// Dead returns them, those that were given up last first, of one target or, with
	// 0, of all.
	Dead(ctx context.Context, target int64) ([]notice.Dead, error)
	// RetryDead makes those with these ids deliveries again that are due at a time,
	// with all their tries before them, or all of a target, or all with neither. It
	// returns how many there were.
	RetryDead(ctx context.Context, q DeadQuery, now time.Time) (int, error)
	// DropDead removes them, and counts nothing as lost.
	DropDead(ctx context.Context, q DeadQuery) (int, error)
}

// DeadQuery says which dead letters: by ID, of a target, or all.
type DeadQuery struct {
	ID     string
	Target int64
}
