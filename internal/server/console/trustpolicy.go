package console

import (
	"context"
	"net/url"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/server/audit"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/trust"
)

// trustBook is the policy of who must have signed images.
func (c *Console) trustBook() *book {
	return &book{
		path: "/trust/policy", here: "trust", name: "trust policy", up: "/trust", upName: "Trust", glyph: "seal", done: "policy-set",
		most: store.MaxTrustPolicy, comment: audit.MaxComment, starter: starter, reads: access.ReadImages, manages: access.ManageTrust,
		hint:     "Keys, certificates and trusted roots stand in it, below `pem:`. It names no files: agents have none of them.",
		tryHint:  "Try it says what would change for the images that run, before anything does.",
		tryTitle: "What it would change", tryName: "Try it", blank: noPolicy,
		changes: func(ctx context.Context, _ access.Identity) (<-chan struct{}, error) {
			return c.Images.Changed(ctx, "")
		},
		read: func(ctx context.Context, who access.Identity, version int64) (edition, error) {
			p, err := c.Trust.Policy(ctx, who, version)
			return edition(p), err
		},
		list: func(ctx context.Context, who access.Identity, before int64, limit int) ([]edition, error) {
			all, err := c.Trust.Policies(ctx, who, before, limit)
			out := make([]edition, len(all))
			for i := range all {
				out[i] = edition(all[i])
			}
			return out, err
		},
		explain: func(who access.Identity, text string) ([]passage, []textProblem, error) {
			means, problems, err := c.Trust.Explain(who, text)
			out := make([]textProblem, len(problems))
			for i, p := range problems {
				out[i] = textProblem{p.Line, p.Column, p.Text, p.Remedy}
			}
			return passages(means), out, err
		},
		set: func(ctx context.Context, who access.Identity, e entered) error {
			_, err := c.Trust.SetPolicy(ctx, who, e.Text, e.Comment, e.After)
			return err
		},
		try: func(ctx context.Context, v visit, text string, _ url.Values) (trialResult, error) {
			t, err := c.Trust.Try(ctx, v.who, text)
			if err != nil {
				return trialResult{}, err
			}
			return trialResult{trialWords(&t), trustTrial(page{Now: v.now, files: c.assets}, &t)}, nil
		},
	}
}

// passages are those of a trust policy.
func passages(all []trust.Passage) []passage {
	var out []passage
	for _, x := range all {
		out = append(out, passage{x.Line, x.Text, passages(x.Parts)})
	}
	return out
}
