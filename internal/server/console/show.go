package console

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/castellan-security/castellan/internal/untrusted"
)

// quoted shows a text that came from a container (see package untrusted), isolated so
// that its direction of writing ends with it.
func quoted(s string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		var b strings.Builder
		b.WriteString("<bdi>")
		for _, p := range untrusted.Pieces(s) {
			if p.StandIn {
				b.WriteString(`<span class="ctl">` + templ.EscapeString(p.Text) + "</span>")
				continue
			}
			b.WriteString(templ.EscapeString(p.Text))
		}
		b.WriteString("</bdi>")
		_, err := io.WriteString(w, b.String())
		return err
	})
}

// icon shows one symbol of the sprite; it never stands alone for a meaning.
func (p page) icon(name string) templ.Component { return symbol(p.file("icons.svg"), name) }

func symbol(sprite, name string) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, `<svg class="icon" aria-hidden="true" focusable="false"><use href="`+
			templ.EscapeString(sprite+"#"+name)+`"></use></svg>`)
		return err
	})
}

// since shows how long ago a time was; the script keeps it current, and the
// full time is in its title.
func since(t, now time.Time) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		if t.IsZero() {
			_, err := io.WriteString(w, `<span class="muted">never</span>`)
			return err
		}
		_, err := io.WriteString(w, `<time class="ago" datetime="`+t.UTC().Format(time.RFC3339)+`" title="`+moment(t)+
			`" data-ms="`+strconv.FormatInt(t.UnixMilli(), 10)+`">`+ago(t, now)+`</time>`)
		return err
	})
}
