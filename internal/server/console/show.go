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

// part is a piece of a phrase: a text in an element, or without one.
type part struct{ text, element string }

// ours is a text of this program, theirs one that came from elsewhere; strong
// and code are theirs in an element.
func ours(s string) part   { return part{s, "-"} }
func theirs(s string) part { return part{s, ""} }
func strong(s string) part { return part{s, "strong"} }
func code(s string) part   { return part{s, "code"} }

// phrase writes parts in one run, without the blanks that a template puts
// between its lines. Empty ones are left out.
func phrase(parts ...part) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		for _, p := range parts {
			open, end := "", ""
			switch {
			case p.text == "":
				continue
			case p.element == "-":
				if _, err := io.WriteString(w, templ.EscapeString(p.text)); err != nil {
					return err
				}
				continue
			case p.element != "":
				open, end = "<"+p.element+">", "</"+p.element+">"
			}
			if _, err := io.WriteString(w, open); err != nil {
				return err
			}
			if err := quoted(p.text).Render(ctx, w); err != nil {
				return err
			}
			if _, err := io.WriteString(w, end); err != nil {
				return err
			}
		}
		return nil
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
