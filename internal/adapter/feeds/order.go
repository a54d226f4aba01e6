package feeds

import (
	"iter"
	"sync"
)

// inOrder does jobs on several goroutines and gives their results in the order of
// the jobs, on the caller's. At most three jobs a worker are under way. It returns
// when all are done, or when give returns false, and always after the last
// goroutine has ended.
func inOrder[J, R any](workers int, jobs iter.Seq[J], do func(worker int, job J) R, give func(R) bool) {
	type slot struct {
		job J
		out chan R
	}
	work := make(chan slot)
	queue := make(chan chan R, workers)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(queue)
		defer close(work)
		for job := range jobs {
			s := slot{job, make(chan R, 1)}
			select {
			case queue <- s.out:
			case <-stop:
				return
			}
			select {
			case work <- s:
			case <-stop:
				return
			}
		}
	})
	for worker := range workers {
		wg.Go(func() {
			for s := range work {
				s.out <- do(worker, s.job)
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	for out := range queue {
		if !give(<-out) {
			return
		}
	}
}
