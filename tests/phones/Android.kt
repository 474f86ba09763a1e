import java.io.File

/** The parts of Android and of an app that the guide's worker uses; that of WorkManager is `androidx.work`. */
class Context(val filesDir: File)

class WorkerParameters

abstract class Worker(val applicationContext: Context, @Suppress("unused") work: WorkerParameters) {
    val isStopped = false

    abstract fun doWork(): Result

    class Result private constructor(val name: String) {
        companion object {
            fun success() = Result("success")
            fun retry() = Result("retry")
            fun failure() = Result("failure")
        }
    }
}

object Log {
    fun w(tag: String, message: String): Int {
        println("$tag: $message")
        return 0
    }
}

class Session(val prefix: String, private val current: String) {
    fun token() = current
}

lateinit var session: Session
