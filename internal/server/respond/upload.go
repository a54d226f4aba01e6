package respond

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/untrusted"
	"github.com/castellan-security/castellan/internal/whole"
)

const (
	// PartUpload is the name of the condition that is set while snapshots don't get into
	// the bucket.
	PartUpload = "snapshots in the bucket"
	// uploadEvery is how often is looked for snapshots to upload, if nobody says that
	// there is one.
	uploadEvery = 30 * time.Second
	// uploadAgain follows the first try that failed; each further pause is twice as
	// long, up to uploadMost.
	uploadAgain = 30 * time.Second
	uploadMost  = time.Hour
	// uploadWithin bounds one try: 256 MiB over a slow line.
	uploadWithin = time.Hour
)

// Bucket keeps snapshots elsewhere, where neither who has this server nor who has a
// host can take them away; *aws.Bucket does.
type Bucket interface {
	// Put puts an object there, whole or not at all, with its SHA-256 in hex. It may be
	// called again with the same.
	Put(ctx context.Context, key string, from io.ReaderAt, size int64, sum string) error
	// Where is how people name an object.
	Where(key string) string
}

// Upload is how far a snapshot is on its way into the bucket. The zero value is that
// nobody has tried.
type Upload struct {
	Where string    `json:"where,omitempty"` // s3://…, once it is there
	At    time.Time `json:"at,omitzero"`     // when it got there, or the last try
	Tries int       `json:"tries,omitempty"` // that failed
	// Error says why the last try failed, Remedy what helps.
	Error  string `json:"error,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// due is when it is tried next.
func (u *Upload) due() time.Time {
	if u.Tries == 0 {
		return time.Time{}
	}
	return u.At.Add(min(uploadAgain<<min(u.Tries-1, 10), uploadMost))
}

// bucketKey is the name of a snapshot in the bucket, without its suffix: by day, so
// that lists and lifecycle rules have something to hold on to.
func bucketKey(x *Snapshot) string { return x.Taken.UTC().Format("2006/01/02/") + x.ID }

// afterwards looks by whom snapshots are signed, and uploads them, until ctx ends.
func (s *Service) afterwards(ctx context.Context) {
	if s.Snapshots == "" {
		return
	}
	tick := time.NewTicker(uploadEvery)
	defer tick.Stop()
	for {
		s.lookWhoSigned(ctx)
		if s.Bucket != nil {
			s.uploadDue(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.upload:
		case <-tick.C:
		}
	}
}

// uploadDue uploads those that are to be by now, the oldest first.
func (s *Service) uploadDue(ctx context.Context) {
	s.snapping.Lock()
	all, err := s.allSnapshots()
	s.snapping.Unlock()
	if err != nil {
		s.Condition(ctx, PartUpload, err)
		return
	}
	var trouble error
	for i := len(all) - 1; i >= 0 && ctx.Err() == nil; i-- {
		x := &all[i]
		if x.Upload.Where != "" || x.Digest == "" { // it is there, or nobody knows what it is
			continue
		}
		if x.Upload.due().After(s.Clock()) {
			trouble = fault.New(fault.Unavailable, "snapshot %s is not in the bucket: %s", x.ID, x.Upload.Error).With(x.Upload.Remedy)
			continue
		}
		if err := s.uploadOne(ctx, x); err != nil {
			trouble = err
		}
	}
	if ctx.Err() == nil {
		s.Condition(ctx, PartUpload, trouble)
	}
}

// uploadOne uploads one and notes what came of it, beside it and in the audit log.
func (s *Service) uploadOne(ctx context.Context, x *Snapshot) error {
	key := bucketKey(x)
	err := s.putSnapshot(ctx, x, key)
	if ctx.Err() != nil {
		return nil // the next start does
	}
	u := Upload{Where: s.Bucket.Where(key + archiveSuffix), At: s.Clock().UTC()}
	if err != nil {
		u = Upload{
			At: u.At, Tries: x.Upload.Tries + 1,
			Error: untrusted.Clip(err.Error(), maxDetail), Remedy: untrusted.Clip(fault.Remedy(err), maxDetail),
		}
	}
	if e := s.noteUpload(x.ID, u); e != nil {
		return errors.Join(err, e)
	}
	if err != nil && u.Tries > 1 {
		return err // that it fails is said once
	}
	outcome, detail := audit.Done, "snapshot "+x.ID+" is in "+u.Where
	if err != nil {
		outcome, detail = "failed", "snapshot "+x.ID+": "+u.Error
	}
	return errors.Join(err, s.log().Add(ctx, access.Identity{Actor: "server"}, "respond.snapshot.upload", "workload:"+x.Workload, outcome, detail))
}

// putSnapshot puts an archive and what is known of it into the bucket.
func (s *Service) putSnapshot(ctx context.Context, x *Snapshot, key string) error {
	ctx, cancel := context.WithTimeout(ctx, uploadWithin)
	defer cancel()
	f, err := os.Open(filepath.Join(s.Snapshots, x.ID+archiveSuffix))
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	defer f.Close()
	if err := s.Bucket.Put(ctx, key+archiveSuffix, f, x.Size, strings.TrimPrefix(x.Digest, "sha256:")); err != nil {
		return err
	}
	about := *x
	about.Upload = Upload{}
	b, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return fmt.Errorf("write what the snapshot is of: %w", err)
	}
	return s.Bucket.Put(ctx, key+aboutSuffix, strings.NewReader(string(b)), int64(len(b)), hexSum(b))
}

// noteUpload keeps how far a snapshot is.
func (s *Service) noteUpload(id string, u Upload) error {
	return s.noteOf(id, func(x *Snapshot) { x.Upload = u })
}

// noteOf keeps something else of a snapshot, unless it was deleted meanwhile.
func (s *Service) noteOf(id string, change func(*Snapshot)) error {
	s.snapping.Lock()
	defer s.snapping.Unlock()
	if !s.hasSnapshot(id) {
		return nil
	}
	var x Snapshot
	if err := s.about(id, &x); err != nil {
		return fmt.Errorf("read what the snapshot is of: %w", err)
	}
	change(&x)
	b, err := json.Marshal(x)
	if err == nil {
		err = whole.Write(filepath.Join(s.Snapshots, id+aboutSuffix), b)
	}
	if err != nil {
		return fmt.Errorf("note what came of the snapshot: %w", err)
	}
	return nil
}
