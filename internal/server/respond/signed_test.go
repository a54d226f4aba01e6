package respond_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/link"
	"github.com/castellan-security/castellan/internal/response"
	server "github.com/castellan-security/castellan/internal/server/respond"
)

func TestWhoSignedASnapshot(t *testing.T) {
	f, archive := open(t), []byte("an archive")
	sum := sha256.Sum256(archive)
	f.answer = func(d response.Deed) response.Answer {
		kept := response.Kept{File: "/there", Size: int64(len(archive)), Digest: "sha256:" + hex.EncodeToString(sum[:])}
		if err := f.svc.SnapshotPiece(t.Context(), link.SnapshotPiece{AgentID: host, Deed: d.ID, Size: kept.Size, Digest: kept.Digest, Piece: archive}); err != nil {
			t.Error(err)
		}
		return response.Answer{State: response.Done, Kept: &kept}
	}
	for name, c := range map[string]struct {
		agent string
		err   error
		want  string
	}{
		"its agent":           {host, nil, server.SignedYes},
		"nobody":              {"", nil, server.SignedNo},
		"another agent":       {"host-9", nil, "signed by agent host-9"},
		"nobody who could be": {"", errors.New("not of this manifest"), "not of this manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			f.svc.Snapshots = t.TempDir()
			asked := 0
			f.svc.SignedBy = func(from io.Reader) (string, error) {
				asked++
				if b, err := io.ReadAll(from); err != nil || !bytes.Equal(b, archive) {
					t.Errorf("read %q, %v", b, err)
				}
				return c.agent, c.err
			}
			if _, err := f.svc.Ask(t.Context(), otto, server.Ask{Kind: response.Snapshot, Workload: web}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				f.svc.LookWhoSigned(t.Context())
			}
			all, err := f.svc.SnapshotList(t.Context(), otto)
			if err != nil || len(all) != 1 || !strings.Contains(all[0].Signed, c.want) || all[0].Digest == "" {
				t.Errorf("%+v, %v; want signed %q", all, err, c.want)
			}
			if asked != 1 {
				t.Errorf("it was read %d times", asked)
			}
		})
	}
}
