from fivebyfive.watching.position import Position


def test_time_left_is_that_of_the_whole_run_at_the_pace_so_far(training):
    now = 100.0
    progress = Position(clock=lambda: now)
    progress.add(training.started(epochs=4))
    assert (progress.done, progress.time, progress.speed) == (0.0, "", None)
    now = 130.0
    progress.add(training.epoch_done(1, epochs=4))
    assert (progress.done, progress.time) == (0.25, "1:30 left")
    now = 220.0
    progress.add(training.epoch_done(4, epochs=4))
    assert (progress.done, progress.time) == (1.0, "2:00")


def test_the_last_test_accuracy_stays_while_the_next_epoch_trains(training):
    progress = Position()
    progress.add(training.started())
    progress.add(training.chunk(1, 47))
    assert progress.test_acc is None
    done = training.epoch_done(1)
    progress.add(done)
    progress.add(training.chunk(2, 47))
    assert progress.test_acc == done.test_acc
    assert progress.epoch == 2
