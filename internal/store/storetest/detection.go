package storetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/store"
	"github.com/castellan-security/castellan/internal/threat"
)

func (k *kit) detectionDocument(name, text string, after int64) store.DetectionDocument {
	k.Helper()
	d, err := k.st.PutDetectionDocument(k.ctx, store.DetectionDocument{Name: name, Text: text, Removed: text == "", Actor: "user:anna", Comment: "why", Created: base()}, after)
	k.ok(err)
	return d
}

func (k *kit) silence(rule string, lasts time.Duration) store.DetectionSilence {
	k.Helper()
	s, err := k.st.PutDetectionSilence(k.ctx, store.DetectionSilence{
		Silence: threat.Silence{Rule: rule, Groups: []string{"shop/*"}, Reason: "because", By: "user:anna", Until: base().Add(lasts)}, Created: base(),
	})
	k.ok(err)
	return s
}

func detectionCases() []testCase {
	return []testCase{
		{"documents of rules have versions", func(k *kit) {
			_, err := k.st.DetectionDocument(k.ctx, "a", 0)
			k.wantFault(err, fault.NotFound)
			a1, b1, a2 := k.detectionDocument("a", "one", 0), k.detectionDocument("b", "other", 0), k.detectionDocument("a", "two", 1)
			all, err := k.st.DetectionDocuments(k.ctx)
			k.ok(err)
			same(k, "those that hold", all, []store.DetectionDocument{a2, b1})
			_, err = k.st.PutDetectionDocument(k.ctx, store.DetectionDocument{Name: "a", Text: "three"}, 1)
			k.wantFault(err, fault.Conflict)
			_, err = k.st.PutDetectionDocument(k.ctx, store.DetectionDocument{Name: "a", Text: strings.Repeat("x", store.MaxDetectionDocument+1)}, 2)
			k.wantFault(err, fault.Invalid)
			a3 := k.detectionDocument("a", "", 2)
			all, err = k.st.DetectionDocuments(k.ctx)
			k.ok(err)
			same(k, "those that hold when one is removed", all, []store.DetectionDocument{b1})
			newest, err := k.st.DetectionDocument(k.ctx, "a", 0)
			k.ok(err)
			same(k, "newest", newest, a3)
			one, err := k.st.DetectionDocument(k.ctx, "a", 1)
			k.ok(err)
			same(k, "first", one, a1)
			_, err = k.st.DetectionDocument(k.ctx, "a", 9)
			k.wantFault(err, fault.NotFound)
			a1.Text, a2.Text = "", ""
			history, err := k.st.DetectionVersions(k.ctx, "a", 0, 0)
			k.ok(err)
			same(k, "history", history, []store.DetectionDocument{a3, a2, a1})
			history, err = k.st.DetectionVersions(k.ctx, "a", 3, 1)
			k.ok(err)
			same(k, "a page of it", history, []store.DetectionDocument{a2})
			same(k, "version after a removal", k.detectionDocument("a", "again", 3).Version, int64(4))
		}},
		{"documents of rules are bounded", func(k *kit) {
			for i := range store.MaxDetectionDocuments {
				k.detectionDocument(fmt.Sprint("d", i), "text", 0)
			}
			_, err := k.st.PutDetectionDocument(k.ctx, store.DetectionDocument{Name: "more", Text: "x"}, 0)
			k.wantFault(err, fault.Exhausted)
			k.detectionDocument("d0", "text again", 1)
			for v := range int64(store.MaxDetectionVersions) {
				k.detectionDocument("d1", fmt.Sprint("text ", v), v+1)
			}
			_, err = k.st.DetectionDocument(k.ctx, "d1", 1)
			k.wantFault(err, fault.NotFound)
			_, err = k.st.DetectionDocument(k.ctx, "d1", 2)
			k.ok(err)
		}},
	}
}

func detectionBesideCases() []testCase {
	return []testCase{
		{"silences end", func(k *kit) {
			short, long := k.silence("a-*", time.Hour), k.silence("b", 3*time.Hour)
			all, err := k.st.DetectionSilences(k.ctx, base().Add(time.Minute))
			k.ok(err)
			same(k, "those that hold", all, []store.DetectionSilence{long, short})
			all, err = k.st.DetectionSilences(k.ctx, base().Add(2*time.Hour))
			k.ok(err)
			same(k, "later", all, []store.DetectionSilence{long})
			_, err = k.st.EndDetectionSilence(k.ctx, short.ID, "user:jo", base().Add(2*time.Hour))
			k.wantFault(err, fault.Conflict)
			_, err = k.st.EndDetectionSilence(k.ctx, 99, "user:jo", base())
			k.wantFault(err, fault.NotFound)
			ended, err := k.st.EndDetectionSilence(k.ctx, long.ID, "user:jo", base().Add(2*time.Hour))
			k.ok(err)
			same(k, "ended by", ended.EndedBy, "user:jo")
			all, err = k.st.DetectionSilences(k.ctx, base().Add(2*time.Hour))
			k.ok(err)
			same(k, "after the end", len(all), 0)
			all, err = k.st.DetectionSilences(k.ctx, time.Time{})
			k.ok(err)
			same(k, "all", all, []store.DetectionSilence{ended, short})
		}},
		{"how rules fare is summed over hosts and their starts", func(k *kit) {
			put := func(agent, boot string, stats ...threat.RuleStats) {
				k.Helper()
				k.ok(k.st.PutDetectionStats(k.ctx, agent, boot, stats))
			}
			put("a", "1", threat.RuleStats{Rule: "x", Looked: 5, Hits: 1, Spent: 10, Last: base()}, threat.RuleStats{Rule: "y", Looked: 1})
			put("a", "1", threat.RuleStats{Rule: "x", Looked: 9, Hits: 2, Silenced: 1, Errors: 3, Spent: 20, Last: base().Add(time.Minute)})
			put("a", "1", threat.RuleStats{Rule: "x", Looked: 9, Hits: 2, Silenced: 1, Errors: 3, Spent: 20, Last: base().Add(time.Minute)}) // told twice
			put("b", "7", threat.RuleStats{Rule: "x", Looked: 100, Hits: 10})
			put("a", "2", threat.RuleStats{Rule: "x", Looked: 1, Hits: 1, Spent: 1})
			all, err := k.st.DetectionStats(k.ctx, []string{"x", "z", "y"})
			k.ok(err)
			same(k, "sums", all, []threat.RuleStats{
				{Rule: "x", Looked: 110, Hits: 13, Silenced: 1, Errors: 3, Spent: 21, Last: base().Add(time.Minute)}, {Rule: "y", Looked: 1},
			})
		}},
		{"what rules learned is replaced, and that of others stays", func(k *kit) {
			all, err := k.st.DetectionMemories(k.ctx)
			k.ok(err)
			same(k, "at first", len(all), 0)
			k.ok(k.st.PutDetectionMemories(k.ctx, map[string]json.RawMessage{"x": []byte(`{"a":1}`), "y": []byte(`{}`)}))
			k.ok(k.st.PutDetectionMemories(k.ctx, map[string]json.RawMessage{"x": []byte(`{"a":2}`)}))
			all, err = k.st.DetectionMemories(k.ctx)
			k.ok(err)
			same(k, "memories", all, map[string]json.RawMessage{"x": []byte(`{"a":2}`), "y": []byte(`{}`)})
		}},
	}
}
