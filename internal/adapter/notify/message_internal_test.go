package notify

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/castellan-security/castellan/internal/notice"
)

// FuzzMessages: whatever a notice holds, what is sent is of the form and size
// that it is to have.
func FuzzMessages(f *testing.F) {
	f.Add("shop/web:1", "CVE-1", "openssl", 2048)
	f.Add("a]\"\\\x00\n<!here>", "\u202e", strings.Repeat("é", 3000), 8192)
	s := New("1", nil)
	f.Fuzz(func(t *testing.T, reference, id, pkg string, most int) {
		if most < maxDatagram || most > maxMessage {
			most = maxDatagram
		}
		x := notice.Notice{
			Kind: notice.Kind(id), Time: time.Unix(0, 0), Title: reference, Remedy: pkg, Link: id,
			Image:    &notice.Image{ID: id, References: []string{reference}, Groups: []string{pkg}},
			Findings: []notice.Finding{{ID: id, Package: pkg, Version: reference}},
		}
		m := string(s.message(id, &x, most))
		if len(m) > most || !utf8.ValidString(m) || strings.ContainsAny(m, "\n\x00") {
			t.Errorf("message of %d bytes, at most %d: %q", len(m), most, m)
		}
		b, err := slackMessage(&notice.Notification{Title: reference, Link: id, Notices: []notice.Notice{x, x}})
		var text map[string]string
		if err != nil || json.Unmarshal(b, &text) != nil || strings.Contains(text["text"], "<!") {
			t.Errorf("message %s, %v", b, err)
		}
	})
}
