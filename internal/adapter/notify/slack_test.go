package notify_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
)

// slackText sends a notification to a stand-in of Slack and returns its text.
func slackText(t *testing.T, n notice.Notification) string {
	t.Helper()
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	defer srv.Close()
	if err := send(t, slack(srv.URL+"/services/T0/B0/x"), n); err != nil {
		t.Fatal(err)
	}
	var m map[string]string
	if err := json.Unmarshal(body, &m); err != nil || len(m) != 1 {
		t.Fatalf("message %s, %v", body, err)
	}
	return m["text"]
}

func TestSlackMessage(t *testing.T) {
	want := `:red_circle: *<https://castellan.example:8600/images/sha256:11|shop/web:1 has 2 more vulnerabilities: critical CVE-2026-1 in openssl, …>*
runs in 3 workloads of ` + "`prod/web/app`" + `
• critical ` + "`CVE-2026-1` in `openssl 3.0.9`, *exploited*, fixed in `3.0.13`" + `
• low ` + "`CVE-2026-2` in `zlib 1`" + `
`
	if got := slackText(t, vulnerable()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSlackMessageOfMany(t *testing.T) {
	n := vulnerable()
	n.Title, n.LeftOut = "62 images: more is known to be wrong with them", 50
	n.Notices[0].LeftOut = 7 // beside two that are shown
	for range 11 {
		n.Notices = append(n.Notices, notice.Notice{Severity: finding.Medium, Title: "another", Link: "https://c/x"})
	}
	got := slackText(t, n)
	for _, want := range []string{"|62 images", "• 4 more\n", ":large_orange_circle: <https://c/x|another>", "… and <https://castellan.example:8600/images/sha256:11|52 more>"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "another"); n != 9 {
		t.Errorf("%d of the others are shown, want 9", n)
	}
}

// hostileText calls everybody, leads elsewhere and hides what follows, wherever
// it is not only text.
const hostileText = "<!channel> @here @channel *b* _i_ ~s~ `code` <https://evil|click> \u202e\x1b[31m\n& |"

func hostile() notice.Notification {
	n := vulnerable()
	n.Title = hostileText
	x := &n.Notices[0]
	x.Title, x.Remedy = hostileText, hostileText
	x.Image.References, x.Image.Groups = []string{hostileText}, []string{hostileText}
	x.Findings[0].ID, x.Findings[0].Package, x.Findings[0].Fixed = hostileText, hostileText, hostileText
	return n
}

func TestSlackMessageCallsNobody(t *testing.T) {
	got := slackText(t, hostile())
	for _, bad := range []string{"<!", "<https://evil", "\u202e", "\x1b"} {
		if strings.Contains(got, bad) {
			t.Errorf("%q is in\n%s", bad, got)
		}
	}
	// What may still call somebody elsewhere stands in code alone.
	for i, part := range strings.Split(got, "`") {
		if i%2 == 0 && (strings.Contains(part, "@here") || strings.Contains(part, "*b*") || strings.Contains(part, "~s~")) {
			t.Errorf("outside of code: %q", part)
		}
	}
	if lines := strings.Count(got, "\n"); lines != 4 {
		t.Errorf("%d lines, want 4:\n%s", lines, got)
	}
}
