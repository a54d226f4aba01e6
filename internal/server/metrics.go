package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/castellan-security/castellan/internal/access"
	"github.com/castellan-security/castellan/internal/store"
)

// metrics are the server's own counters, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	panics   prometheus.Counter
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "castellan_http_request_seconds", Help: "Time from a request to the end of its answer, by part and status.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}, []string{"part", "status"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "castellan_http_panics_total", Help: "Requests whose handler panicked: defects, each with an error_id in the log.",
		}),
	}
	strays := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "castellan_registry_events_stray_total", Help: "Events that queues brought of registries that are not watched; they were taken from them.",
	}, func() float64 { return float64(s.registries.Strays()) })
	refused := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "castellan_webhook_refused_total", Help: "Calls of registries' webhooks with a wrong token.",
	}, func() float64 { return float64(s.strangers.total.Load()) })
	m.registry.MustRegister(m.requests, m.panics, strays, refused, &lossCollector{s}, &imageCollector{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// answered counts one request. Streams count too, with the time they lived.
func (m *metrics) answered(part string, status int, took time.Duration) {
	if status == 0 {
		status = http.StatusOK
	}
	m.requests.WithLabelValues(part, strconv.Itoa(status)).Observe(took.Seconds())
}

// lossCollector shows what the live parts count.
type lossCollector struct{ s *Server }

var (
	lossDesc = prometheus.NewDesc("castellan_events_lost_total",
		"Events that reached the server and are not stored, or processes that a tree had no room for.", []string{"where"}, nil)
	storedDesc = prometheus.NewDesc("castellan_events_stored_total",
		"Events stored since the server started.", nil, nil)
	conditionDesc = prometheus.NewDesc("castellan_condition",
		"1 for each part of the server that is not well.", []string{"part"}, nil)
)

// Describe is prometheus.Collector.
func (c *lossCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- lossDesc
	ch <- storedDesc
	ch <- conditionDesc
}

// Collect is prometheus.Collector.
func (c *lossCollector) Collect(ch chan<- prometheus.Metric) {
	for _, l := range c.s.conditions.Losses() {
		ch <- prometheus.MustNewConstMetric(lossDesc, prometheus.CounterValue, float64(l.Count), l.Where)
	}
	ch <- prometheus.MustNewConstMetric(storedDesc, prometheus.CounterValue, float64(c.s.intake.Stored()))
	for _, w := range c.s.conditions.List() {
		ch <- prometheus.MustNewConstMetric(conditionDesc, prometheus.GaugeValue, 1, w.Name)
	}
}

// imageCollector shows how far the scans of images are. A store that does not
// answer shows nothing: it is a condition.
type imageCollector struct{ s *Server }

// scrapeTimeout bounds what one scrape asks of the store.
const scrapeTimeout = 2 * time.Second

var (
	imagesDesc = prometheus.NewDesc("castellan_images",
		"Images that workloads were started from, by the state of their scan.", []string{"scan"}, nil)
	unmatchedDesc = prometheus.NewDesc("castellan_images_unmatched",
		"Scanned images that were not compared with the advisories in force yet.", nil, nil)
	advisoriesDesc = prometheus.NewDesc("castellan_advisories_built_timestamp_seconds",
		"When the advisories in force were compiled.", nil, nil)
)

// Describe is prometheus.Collector.
func (c *imageCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- imagesDesc
	ch <- unmatchedDesc
	ch <- advisoriesDesc
}

// Collect is prometheus.Collector.
func (c *imageCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	st, err := c.s.images.Status(ctx)
	if err != nil {
		return
	}
	for scan, n := range map[store.ScanState]int{
		store.ScanWaiting: st.Waiting, store.ScanRunning: st.Running, store.ScanDone: st.Done,
		store.ScanFailed: st.Failed, store.ScanGone: st.Gone,
	} {
		ch <- prometheus.MustNewConstMetric(imagesDesc, prometheus.GaugeValue, float64(n), string(scan))
	}
	ch <- prometheus.MustNewConstMetric(unmatchedDesc, prometheus.GaugeValue, float64(st.Unmatched))
	if built := st.Database.Built; !built.IsZero() {
		ch <- prometheus.MustNewConstMetric(advisoriesDesc, prometheus.GaugeValue, float64(built.Unix()))
	}
}

// addOperations adds what whoever operates the server asks, outside of the API:
// /healthz answers while the process serves, /readyz while the store answers
// too, both without a word of detail; /metrics needs agents:read.
func (s *Server) addOperations(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.storeHealth(r.Context()); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.Handle("GET /metrics", s.scoped(access.ReadAgents,
		promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2})))
}
