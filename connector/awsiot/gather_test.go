package awsiot

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Few are told one by one and at once, many in sums; none is forgotten, and
// when they are few again they are told one by one again.
func TestGatherer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // sums are told by a timer
		var told []string
		began := time.Now()
		note := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, fmt.Sprintf("%s ", time.Since(began))+fmt.Sprintf(format, args...))
		}
		g := &gatherer{
			every: 10 * time.Second,
			one:   func(devEUI, name string) { note("%s %s", devEUI, name) },
			many:  func(n int, examples string) { note("%d: %s", n, examples) },
		}
		next := 0
		add := func(n int) {
			for range n {
				g.add(fmt.Sprint(next), fmt.Sprintf("t%d", next))
				next++
			}
		}
		want := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if diff := cmp.Diff(want, told); diff != "" {
				t.Errorf("%s (-want +got): %s", what, diff)
			}
			told = nil
		}
		add(2)
		want("few", "0s 0 t0", "0s 1 t1")
		time.Sleep(3 * time.Second)
		add(8 + 500)
		time.Sleep(5 * time.Second)
		add(500)
		var first []string
		for i := 2; i < 10; i++ {
			first = append(first, fmt.Sprintf("3s %d t%d", i, i))
		}
		want("the first of many", first...)
		time.Sleep(5 * time.Second)
		want("the sum", "13s 1000: t10, t11, t12 and 997 others")
		add(11)
		time.Sleep(10 * time.Second)
		want("still many", "23s 11: t1010, t1011, t1012 and 8 others")
		add(2)
		time.Sleep(10 * time.Second)
		want("few again", "33s 1021 t1021", "33s 1022 t1022")
		add(8)
		var last []string
		for i := range 8 {
			last = append(last, fmt.Sprintf("33s %d t%d", 1023+i, 1023+i))
		}
		want("one by one", last...)
		add(12)
		want("they are too many for this while")
		g.close()
		want("the rest", "33s 12: t1031, t1032, t1033 and 9 others")
		g.close()
		add(1)
		want("after all", "33s 1043 t1043")
	})
}
