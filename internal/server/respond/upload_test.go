package respond_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
	server "github.com/castellan-security/castellan/internal/server/respond"
)

// bucket keeps what is put there, unless it is away.
type bucket struct {
	objects map[string][]byte
	away    error
}

func (b *bucket) Where(key string) string { return "s3://forensics/" + key }

func (b *bucket) Put(_ context.Context, key string, from io.ReaderAt, size int64, sum string) error {
	if b.away != nil {
		return b.away
	}
	body, err := io.ReadAll(io.NewSectionReader(from, 0, size))
	if got := sha256.Sum256(body); err != nil || hex.EncodeToString(got[:]) != sum || int64(len(body)) != size {
		return fault.New(fault.Corrupt, "put %s: %x of %d bytes, %w", key, got, len(body), err)
	}
	b.objects[key] = body
	return nil
}

func TestSnapshotsGoToTheBucket(t *testing.T) {
	f, b, dir := open(t), &bucket{objects: map[string][]byte{}}, t.TempDir()
	archive := []byte("an archive")
	sum := sha256.Sum256(archive)
	f.answer = func(d response.Deed) response.Answer {
		kept := response.Kept{File: "/there", Size: int64(len(archive)), Digest: "sha256:" + hex.EncodeToString(sum[:])}
		if err := f.svc.SnapshotPiece(t.Context(), link.SnapshotPiece{AgentID: host, Deed: d.ID, Size: kept.Size, Digest: kept.Digest, Piece: archive}); err != nil {
			t.Error(err)
		}
		return response.Answer{State: response.Done, Did: []string{"took a snapshot"}, Kept: &kept}
	}
	f.svc.Snapshots, f.svc.Bucket = dir, b
	r, err := f.svc.Ask(t.Context(), otto, server.Ask{Kind: response.Snapshot, Workload: web, Reason: "case 42"})
	if err != nil {
		t.Fatal(err)
	}
	upload := func() server.Upload {
		t.Helper()
		f.svc.Upload(t.Context())
		all, err := f.svc.SnapshotList(t.Context(), otto)
		if err != nil || len(all) != 1 {
			t.Fatalf("snapshots: %+v, %v", all, err)
		}
		return all[0].Upload
	}
	b.away = fault.New(fault.Denied, "no").With("permit it")
	if u := upload(); u.Tries != 1 || u.Error != "no" || u.Remedy != "permit it" || f.parts[server.PartUpload] == nil {
		t.Errorf("upload %+v, condition %v", u, f.parts[server.PartUpload])
	}
	b.away = nil
	if u := upload(); u.Where != "" || f.parts[server.PartUpload] == nil { // it is not its time yet
		t.Errorf("upload %+v, condition %v", u, f.parts[server.PartUpload])
	}
	// The state outlasts the server.
	f.restart()
	f.svc.Snapshots, f.svc.Bucket = dir, b
	f.now = f.now.Add(31 * time.Second)
	key := "2026/01/05/" + r.Deed.ID
	if u := upload(); u.Where != "s3://forensics/"+key+".tar.gz" || u.Error != "" || f.parts[server.PartUpload] != nil {
		t.Errorf("upload %+v, condition %v", u, f.parts[server.PartUpload])
	}
	var about server.Snapshot
	if err := json.Unmarshal(b.objects[key+".json"], &about); err != nil || about.Reason != "case 42" || about.Group != "shop/web/web" || !bytes.Equal(b.objects[key+".tar.gz"], archive) {
		t.Errorf("objects %q: %v", b.objects, err)
	}
	clear(b.objects)
	upload()
	if len(b.objects) > 0 {
		t.Errorf("put again: %q", b.objects)
	}
	audit := strings.Join(slices.DeleteFunc(slices.Clone(f.audit), func(l string) bool { return !strings.Contains(l, "upload") }), ", ")
	if audit != "server respond.snapshot.upload failed, server respond.snapshot.upload done" {
		t.Errorf("audit log: %s", audit)
	}
}
