package form_test

import (
	"os"
	"strings"
	"testing"

	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
)

func TestTemplate(t *testing.T) {
	n := form.Sample(notice.Incident)
	n.Notices[0].Title = "a\nb\x1b[2J"
	more := form.Sample(notice.ImageVulnerable)
	n.Notices = append(n.Notices, more.Notices...)
	title, text, err := form.Apply(notice.Template{
		Title: "[{{upper .Severity}}] {{.Count}} of\n{{with .Notices}}{{len .}}{{end}}",
		Body:  "{{range $i, $n := .Notices}}{{if eq .Kind \"incident\"}}{{.Title}} {{.Cluster}} {{join .Techniques \", \"}}{{else}}{{range .Findings}}{{.ID}} {{end}}{{end}};{{end}}",
	}, &n)
	if err != nil || title != "[HIGH] 2 of 2" || !strings.HasPrefix(text, "a") || strings.Contains(text, "\x1b") || strings.Count(text, "\n") != 0 ||
		!strings.HasSuffix(text, " prod T1059.004 Unix Shell;CVE-2026-1 ;") {
		t.Errorf("got %q and %q, %v", title, text, err)
	}
	grows := "{{$x := \"xx\"}}{{range .Notices}}{{range $.Notices}}{{$x = join .Groups $x}}" + strings.Repeat("{{$x = join .Techniques $x}}", 100) + "{{end}}{{end}}{{$x}}"
	n.Notices[0].Techniques = make([]notice.Technique, 20)
	if _, text, err := form.Apply(notice.Template{Body: grows}, &n); err != nil || len(text) > form.MaxDetail {
		t.Errorf("what grows has %d bytes, %v", len(text), err)
	}
	// What is too long is cut.
	_, text, err = form.Apply(notice.Template{Body: "{{range .Notices}}{{range $.Notices}}" + strings.Repeat("x", 8_000) + "{{end}}{{end}}"}, &n)
	if err != nil || len(text) != form.MaxText {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	for body, want := range map[string]string{
		"{{":                                    "unclosed action",
		"{{.Nothing}}":                          "Nothing",
		"{{range .Notices}}{{.None}}{{end}}":    "None",
		"{{range 1000000000}}{{end}}":           "range goes over one of",
		"{{range .Count}}{{end}}":               "range goes over one of",
		"{{$x := 5}}{{range $x}}{{end}}":        "range goes over one of",
		"{{range $i := .LeftOut}}{{end}}":       "range goes over one of",
		"{{define \"x\"}}{{end}}":               "may not define others",
		"{{template \"body\" .}}":               "is not for templates",
		"{{block \"x\" .}}{{end}}":              "may not define others",
		"{{printf \"%1000000d\" 1}}":            "no function printf",
		"{{html .Title}}":                       "no function html",
		"{{call .Title}}":                       "no function call",
		"{{(index .Notices 0).Title}}":          "is not for templates",
		"{{if eq (printf \"x\") \"x\"}}{{end}}": "no function printf",
		"{{range .Notices}}{{range .Findings}}{{range $.Notices}}{{end}}{{end}}{{end}}": "2 deep at most",
		strings.Repeat("x", form.MaxTemplate+1):                                         "bytes at most",
	} {
		if err := form.CheckTemplate(notice.Template{Body: body}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v, want %q", body, err, want)
		}
	}
	for _, good := range []notice.Template{{}, {Title: "{{.Title}}"}, {Body: "{{/* nothing */}}"}, {Body: "{{range .Notices}}{{break}}{{else}}none{{end}}"}} {
		if err := form.CheckTemplate(good); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("{{range .Notices}}{{.Title}}{{end}}")
	f.Add("{{with $x := .Title}}{{upper $x | lower}}{{else}}{{end}}")
	f.Fuzz(func(t *testing.T, body string) {
		if form.CheckTemplate(notice.Template{Body: body, Title: body}) != nil {
			return
		}
		n := form.Sample(notice.Incident)
		if title, text, err := form.Apply(notice.Template{Body: body, Title: body}, &n); err != nil || len(text) > form.MaxText || strings.ContainsAny(title, "\n\x1b") {
			t.Errorf("%q, %d bytes, %v", title, len(text), err)
		}
	})
}

// TestTemplateOfTheDocumentation: what people copy works.
func TestTemplateOfTheDocumentation(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/notifications.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "    {{range .Notices}}")
	text, _, ended := strings.Cut(rest, "\n\n|")
	if !ok || !ended {
		t.Fatal("docs/notifications.md has no template")
	}
	n := form.Sample(notice.Incident)
	_, got, err := form.Apply(notice.Template{Body: "{{range .Notices}}" + strings.ReplaceAll(text, "\n    ", "\n")}, &n)
	if err != nil || !strings.Contains(got, "(rule reverse-shell, T1059.004 Unix Shell)\nnc started sh") || !strings.Contains(got, "\nOwner: shop\n") {
		t.Errorf("it makes %q, %v", got, err)
	}
}
