package respond

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
	"github.com/castellan-security/castellan/internal/whole"
)

// How many snapshots a server keeps, and for how long: the oldest go first.
const (
	KeepSnapshots = 200
	KeepBytes     = 8 << 30
	KeepFor       = 90 * 24 * time.Hour
)

// Suffixes of the files of a snapshot, behind the id of its deed.
const (
	archiveSuffix = ".tar.gz"
	partSuffix    = ".part"
	aboutSuffix   = ".json"
	// maxAbout bounds what is written about one.
	maxAbout = 64 << 10
)

// Snapshot is one that the server has.
type Snapshot struct {
	ID       string      `json:"id"` // of its deed
	Taken    time.Time   `json:"taken"`
	Workload string      `json:"workload"`
	Name     string      `json:"name,omitempty"`
	Group    asset.Group `json:"group,omitempty"`
	AgentID  string      `json:"agent_id"`
	By       string      `json:"by"`
	Reason   string      `json:"reason,omitempty"`
	Size     int64       `json:"size"`   // bytes
	Digest   string      `json:"digest"` // sha256: and 64 hex digits
	// Signed says whether its agent signed it, by a certificate of this server's
	// authority: SignedYes, SignedNo, or why it is not what its signature says; empty
	// while nobody has looked.
	Signed string `json:"signed,omitempty"`
	// Upload is how far it is on its way into the server's bucket, if it has one.
	Upload Upload `json:"upload,omitzero"`
}

// What Snapshot.Signed says beside why a signature proves nothing.
const (
	SignedYes = "yes"
	SignedNo  = "no"
)

// SnapshotPiece is link.Snapshots.
func (s *Service) SnapshotPiece(ctx context.Context, p link.SnapshotPiece) error {
	if err := p.Check(); err != nil {
		return err
	}
	if err := s.remember(ctx); err != nil {
		return err
	}
	if s.Snapshots == "" {
		return fault.New(fault.Unsupported, "this server keeps no snapshots")
	}
	s.mu.Lock()
	k := s.all[p.Deed]
	if k == nil || k.AgentID != p.AgentID || k.Deed.Kind != response.Snapshot || k.Answer.State.Ended() || !isSnapshotID(p.Deed) {
		s.mu.Unlock()
		return fault.New(fault.Conflict, "no deed with that id has this agent take a snapshot, or it was answered")
	}
	r := k.Response
	s.mu.Unlock()
	s.snapping.Lock()
	defer s.snapping.Unlock()
	return s.takePiece(&r, &p)
}

// isSnapshotID reports whether an id can stand in a file's name: those of deeds are
// made by rand.Text.
func isSnapshotID(id string) bool {
	return id != "" && len(id) <= response.MaxID && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

func (s *Service) takePiece(r *Response, p *link.SnapshotPiece) (err error) {
	path := filepath.Join(s.Snapshots, p.Deed)
	if _, err := os.Stat(path + archiveSuffix); err == nil {
		return nil // it was told twice
	}
	if err := os.MkdirAll(s.Snapshots, 0o700); err != nil {
		return fmt.Errorf("make the folder of snapshots: %w", err)
	}
	if p.Offset == 0 {
		if err := s.forgetSnapshots(p.Size); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path+partSuffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	switch have := info.Size(); {
	case p.Offset+int64(len(p.Piece)) <= have && have < p.Size:
		return nil // it was told twice
	case p.Offset > have:
		return fault.New(fault.Conflict, "snapshot: a piece at %d, and there are %d bytes", p.Offset, have)
	}
	if _, err := f.WriteAt(p.Piece, p.Offset); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if p.Offset+int64(len(p.Piece)) < p.Size {
		return nil
	}
	return s.wholeSnapshot(f, r, p, path)
}

// wholeSnapshot keeps a snapshot of which all pieces are there.
func (s *Service) wholeSnapshot(f *os.File, r *Response, p *link.SnapshotPiece, path string) error {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, link.MaxSnapshot)); err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != p.Digest {
		return errors.Join(fault.New(fault.Corrupt, "snapshot: its digest is %s, not %s", got, p.Digest), os.Remove(path+partSuffix))
	}
	b, err := json.Marshal(Snapshot{
		ID: p.Deed, Taken: s.Clock().UTC(), Workload: r.Deed.Workload, Name: r.Name, Group: r.Group, AgentID: p.AgentID,
		By: r.Deed.By, Reason: r.Deed.Reason, Size: p.Size, Digest: p.Digest,
	})
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = whole.Write(path+aboutSuffix, b)
	}
	if err == nil {
		err = os.Rename(path+partSuffix, path+archiveSuffix)
	}
	if err != nil {
		return fmt.Errorf("keep snapshot: %w", err)
	}
	select {
	case s.upload <- struct{}{}:
	default: // it looks anyway
	}
	return nil
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// hasSnapshot reports whether the archive of a deed is here.
func (s *Service) hasSnapshot(deed string) bool {
	if s.Snapshots == "" || !isSnapshotID(deed) {
		return false
	}
	_, err := os.Stat(filepath.Join(s.Snapshots, deed+archiveSuffix))
	return err == nil
}

// allSnapshots reads what there is, the newest first. snapping is held.
func (s *Service) allSnapshots() (all []Snapshot, err error) {
	if s.Snapshots == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(s.Snapshots)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), archiveSuffix)
		if !ok || !isSnapshotID(id) {
			continue
		}
		x := Snapshot{ID: id}
		if err := s.about(id, &x); err != nil {
			s.Log.Warn("what a snapshot is of is not known", "id", id, "error", err)
			if info, err := e.Info(); err == nil {
				x.Size, x.Taken = info.Size(), info.ModTime().UTC()
			}
		}
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b Snapshot) int { return cmp.Or(b.Taken.Compare(a.Taken), cmp.Compare(a.ID, b.ID)) })
	return all, nil
}

func (s *Service) about(id string, x *Snapshot) error {
	f, err := os.Open(filepath.Join(s.Snapshots, id+aboutSuffix))
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAbout))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, x)
}

// forgetSnapshots makes room for one more of a size. snapping is held.
func (s *Service) forgetSnapshots(size int64) error {
	all, err := s.allSnapshots()
	if err != nil {
		return err
	}
	bytes := size
	for i := range all {
		bytes += all[i].Size
		if i+1 >= KeepSnapshots || bytes > KeepBytes || s.Clock().Sub(all[i].Taken) > KeepFor {
			if err := s.removeSnapshot(all[i].ID); err != nil {
				return err
			}
		}
	}
	// Uploads that nobody goes on with.
	parts, err := filepath.Glob(filepath.Join(s.Snapshots, "*"+partSuffix))
	for _, p := range parts {
		if info, e := os.Stat(p); e == nil && s.Clock().Sub(info.ModTime()) > 2*answerIn {
			err = errors.Join(err, os.Remove(p))
		}
	}
	return err
}

func (s *Service) removeSnapshot(id string) error {
	path := filepath.Join(s.Snapshots, id)
	if err := os.Remove(path + archiveSuffix); err != nil {
		return fmt.Errorf("remove snapshot: %w", err)
	}
	if err := os.Remove(path + aboutSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove snapshot: %w", err)
	}
	return nil
}

// SnapshotList returns the snapshots that the server has, the newest first. It needs
// access.ReadResponse.
func (s *Service) SnapshotList(_ context.Context, who access.Identity) ([]Snapshot, error) {
	if err := s.need(who); err != nil {
		return nil, err
	}
	s.snapping.Lock()
	defer s.snapping.Unlock()
	return s.allSnapshots()
}

// OpenSnapshot opens the archive of one, which the caller closes; first tells that it
// is not read on, and the audit log has it. It needs access.ManageResponse: an archive
// has what processes held.
func (s *Service) OpenSnapshot(ctx context.Context, who access.Identity, id string, first bool) (*os.File, Snapshot, error) {
	if err := who.Need(access.ManageResponse); err != nil {
		return nil, Snapshot{}, err
	}
	x := Snapshot{ID: id}
	s.snapping.Lock()
	defer s.snapping.Unlock()
	if !s.hasSnapshot(id) {
		return nil, x, noSnapshot()
	}
	if err := s.about(id, &x); err != nil {
		return nil, x, fmt.Errorf("read what the snapshot is of: %w", err)
	}
	if first {
		if err := s.auditSnapshot(ctx, who, &x, "respond.snapshot.download"); err != nil {
			return nil, x, err
		}
	}
	f, err := os.Open(filepath.Join(s.Snapshots, id+archiveSuffix))
	if err != nil {
		return nil, x, fmt.Errorf("read snapshot: %w", err)
	}
	return f, x, nil
}

// DeleteSnapshot removes one. It needs access.ManageResponse.
func (s *Service) DeleteSnapshot(ctx context.Context, who access.Identity, id string) error {
	if err := who.Need(access.ManageResponse); err != nil {
		return err
	}
	x := Snapshot{ID: id}
	s.snapping.Lock()
	defer s.snapping.Unlock()
	if !s.hasSnapshot(id) {
		return noSnapshot()
	}
	if err := s.about(id, &x); err != nil {
		s.Log.Warn("what a snapshot is of is not known", "id", id, "error", err)
	}
	if err := s.removeSnapshot(id); err != nil {
		return err
	}
	return s.auditSnapshot(ctx, who, &x, "respond.snapshot.delete")
}

func noSnapshot() error {
	return fault.New(fault.NotFound, "this server has no snapshot with that id").With("castellan respond snapshots lists those it has")
}

func (s *Service) auditSnapshot(ctx context.Context, who access.Identity, x *Snapshot, action string) error {
	return s.log().Done(ctx, who, action, "workload:"+x.Workload, fmt.Sprintf("snapshot %s of %s, %d bytes, %s", x.ID, x.Group, x.Size, x.Digest))
}
