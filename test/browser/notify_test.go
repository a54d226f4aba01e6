package browser

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/server/console/consoletest"
	"github.com/castellan-security/castellan/internal/store"
)

// addTargets adds targets of notifications to a store: one that takes them, and
// one that does not.
func addTargets(ctx context.Context, st store.Store) error {
	for i, t := range []notice.Target{
		{
			Name: "soc", Type: notice.Webhook, Address: "https://soc.example.org/hooks/castellan/production-environment-eu-central-1",
			Filter: notice.Filter{Severity: finding.High, Running: true, Repositories: []string{"registry.example.org/shop/*"}, Groups: []string{consoletest.HostileName}},
		},
		{Name: "team", Type: notice.Slack, Address: "https://hooks.slack.com/…", Filter: notice.Filter{Kinds: notice.Kinds(), Exploited: true}},
	} {
		t.By, t.Created, t.Interval, t.Sealed = "user:admin", time.Now().Add(-time.Hour), 15*time.Minute, []byte{1}
		made, err := st.PutNotifyTarget(ctx, t)
		if err != nil {
			return fmt.Errorf("add target %s: %w", t.Name, err)
		}
		try := store.NotifyTry{Target: made.ID, At: time.Now().Add(-time.Minute)}
		if i > 0 {
			try.Error, try.Remedy = "hooks.slack.com answered 404 Not Found, no_service", "see that the target's address is still the right one"
		}
		if err := st.EndNotifyTry(ctx, try); err != nil {
			return fmt.Errorf("note a try of %s: %w", t.Name, err)
		}
		if i == 0 {
			continue
		}
		for n := range 2 { // what it refused
			d := store.Delivery{
				ID: fmt.Sprint("dead", n), Target: made.ID, Created: time.Now().Add(-time.Hour), Next: time.Now(),
				Body: []byte(`{"title":"3 incidents, 2 violations of profiles; 1 critical","severity":"critical"}`),
			}
			if err := st.PutNotification(ctx, d, 0); err != nil {
				return fmt.Errorf("store a notification for %s: %w", t.Name, err)
			}
			try.ID, try.Error, try.Remedy = d.ID, "hooks.slack.com answered 400 Bad Request, invalid_blocks", "look at the target's own log"
			if err := st.EndNotifyTry(ctx, try); err != nil {
				return fmt.Errorf("give up a notification for %s: %w", t.Name, err)
			}
		}
	}
	return nil
}

// forms looks at the forms of some types of targets, and at what was given up.
func (h *house) forms(t *testing.T, b *tab) {
	for _, width := range []int64{1280, 390} {
		b.size(width)
		for _, kind := range []string{"email", "securityhub"} {
			b.open("/notify?type=" + kind)
			b.click("#h-new ~ form .more > summary")
			b.wait(`document.querySelector("#h-new ~ form [name=type]").value === "` + kind + `" && document.querySelector("#h-dead")`)
			if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
				t.Errorf("it is %d pixels wide, of %d", got, width)
			}
			b.lets(t, "the form of "+kind)
			picture(b, fmt.Sprintf("notify-%s-%d", kind, width))
		}
	}
}

// changes opens the form of a target that is there, on a telephone too: it has what
// the target is but its secrets, and fits.
func (h *house) changes(t *testing.T, b *tab) {
	for _, width := range []int64{1280, 390} {
		b.size(width)
		b.open("/notify")
		b.click(".targets .more > summary")
		b.wait(`document.querySelector(".targets .more[open] [name=name]").value === "soc"`)
		if got := eval[string](b, `document.querySelector(".targets .more[open] [name=url]").value + document.querySelector(".targets .more[open] [name=secret]").value`); got != "" {
			t.Errorf("what may be a secret is shown: %q", got)
		}
		if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("it is %d pixels wide, of %d", got, width)
		}
		b.lets(t, "the form of a target")
		picture(b, fmt.Sprintf("notify-change-%d", width))
	}
	// The house sends nothing: the answer says so, and keeps what was typed.
	b.expect("status of 501")
	b.fill(".targets .more[open] [name=name]", "siren")
	b.click(".targets .more[open] .primary")
	b.wait(`document.querySelector("[role=alert]") && document.querySelector(".targets .more[open] [name=name]").value === "siren"`)
}
