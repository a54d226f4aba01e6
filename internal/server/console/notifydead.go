package console

import (
	"context"
	"net/http"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/notice"
	"github.com/castellan-security/castellan/internal/store"
)

// retryDead and dropDead end dead letters: the one that is named, or all.
func (c *Console) retryDead(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.endDead(w, r, v, "dead-retried", func(ctx context.Context, who access.Identity, q store.DeadQuery) (int, error) {
		return c.Notify.RetryDead(ctx, who, q)
	})
}

func (c *Console) dropDead(w http.ResponseWriter, r *http.Request, v visit) error {
	return c.endDead(w, r, v, "dead-dropped", func(ctx context.Context, who access.Identity, q store.DeadQuery) (int, error) {
		return c.Notify.DropDead(ctx, who, q)
	})
}

func (c *Console) endDead(w http.ResponseWriter, r *http.Request, v visit, done string, end func(context.Context, access.Identity, store.DeadQuery) (int, error)) error {
	if c.Notify == nil {
		return c.nowhere(w, r, v)
	}
	q := store.DeadQuery{ID: r.PostForm.Get("id")}
	if q.ID == "" && !r.PostForm.Has("all") {
		return fault.New(fault.Invalid, "say which dead letter")
	}
	if _, err := end(r.Context(), v.who, q); err != nil {
		said, ok := refused(err)
		if !ok {
			return err
		}
		return c.showNotify(w, r, v, c.Status(err), notifyData{Form: newTargetForm(), Problem: said})
	}
	redirect(w, r, "/notify?done="+done)
	return nil
}

// previewData is what templates make of notifications.
type previewData struct {
	Problem string
	Each    []previewOf
}

type previewOf struct{ Kind, Title, Text string }

// previewTarget shows what the templates that were typed make of notifications of the
// kinds that are ticked.
func (c *Console) previewTarget(w http.ResponseWriter, r *http.Request, v visit) error {
	if c.Notify == nil {
		return c.nowhere(w, r, v)
	}
	form := typedTarget(r)
	var d previewData
	status := http.StatusOK
	for _, k := range kindTicks() {
		if !form.has(k.Value) && (len(form.Kinds) > 0 || k.Value != string(notice.Incident)) {
			continue
		}
		title, text, err := c.Notify.Preview(v.who, notice.Template{Title: form.Title, Body: form.Text}, notice.Kind(k.Value))
		if err != nil {
			said, ok := refused(err)
			if !ok {
				return err
			}
			d.Problem, status = said, c.Status(err)
			break
		}
		d.Each = append(d.Each, previewOf{k.Label, title, text})
	}
	return c.show(w, r, status, previewBody(c.page(r, v, "notify", "Preview"), d))
}
