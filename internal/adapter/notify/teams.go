package notify

import (
	"encoding/json"
	"fmt"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/notice/form"
)

const (
	// teamsNotices and teamsFindings bound what one card shows. Teams refuses
	// messages of more than 28 KiB; maxTeams keeps a distance from that.
	teamsNotices  = 10
	teamsFindings = 5
	maxTeams      = 24 << 10
)

// card is a part of an Adaptive Card, as adaptivecards.io describes them. Texts of
// others stand in text runs only: those are shown as they are, whereas text
// blocks and facts are read as Markdown.
type card map[string]any

// teamsMessage writes a notification as a message that a workflow of Teams posts
// ("When a Teams webhook request is received"): one with one Adaptive Card.
func teamsMessage(n *notice.Notification) ([]byte, error) {
	most := teamsNotices
	for {
		m, err := json.Marshal(card{
			"type": "message",
			"attachments": []card{{
				"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil,
				"content": card{
					"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
					"msteams": card{"width": "Full"}, "body": teamsBody(n, most),
					"actions": []card{{"type": "Action.OpenUrl", "title": "Open in Castellan", "url": form.Link(n.Link)}},
				},
			}},
		})
		if err != nil {
			return nil, marshalError(err)
		}
		if len(m) <= maxTeams || most == 0 {
			return m, nil
		}
		most /= 2
	}
}

func teamsBody(n *notice.Notification, most int) []card {
	body := []card{paragraph(run(form.Word(n.Title), card{"weight": "Bolder", "size": "Medium", "color": teamsColor(n.Severity)}))}
	if n.Text != "" {
		for l := range splitLines(n.Text) {
			body = append(body, paragraph(run(l, nil)))
		}
		return body
	}
	for i := range n.Notices[:min(len(n.Notices), most)] {
		x := &n.Notices[i]
		part := card{"type": "Container", "separator": true, "items": teamsNotice(x, len(n.Notices) == 1)}
		if link := form.Link(x.Link); link != "" && len(n.Notices) > 1 {
			part["selectAction"] = card{"type": "Action.OpenUrl", "url": link}
		}
		body = append(body, part)
	}
	if more := len(n.Notices) + n.LeftOut - most; more > 0 {
		body = append(body, paragraph(run(fmt.Sprintf("and %d more", more), card{"isSubtle": true})))
	}
	return body
}

func teamsNotice(x *notice.Notice, alone bool) (items []card) {
	if !alone {
		items = append(items, paragraph(run(form.Word(x.Title), card{"weight": "Bolder", "color": teamsColor(x.Severity)})))
	}
	if x.Detail != "" {
		items = append(items, paragraph(run(form.Word(x.Detail), nil)))
	}
	for _, f := range form.Facts(x) {
		items = append(items, paragraph(run(f.Name+": ", card{"isSubtle": true}), run(f.Value, nil)))
	}
	for i := range x.Findings[:min(len(x.Findings), teamsFindings)] {
		items = append(items, paragraph(run("• "+form.Finding(&x.Findings[i]), nil)))
	}
	if more := len(x.Findings) + x.LeftOut - teamsFindings; more > 0 {
		items = append(items, paragraph(run(fmt.Sprintf("• and %d more", more), nil)))
	}
	return items
}

func paragraph(runs ...card) card {
	return card{"type": "RichTextBlock", "spacing": "Small", "inlines": runs}
}

func run(text string, how card) card {
	r := card{"type": "TextRun", "text": text}
	for k, v := range how {
		r[k] = v
	}
	return r
}

func teamsColor(s finding.Severity) string {
	switch s {
	case finding.Critical, finding.High:
		return "Attention"
	case finding.Medium:
		return "Warning"
	}
	return "Accent"
}
